"""The two turn records for the collector: `turn.accepted`, and `turn.done` with the terminal.

Pure. A record holds nothing that a person wrote or read, unless content is captured.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, structs

from lastword import names
from lastword.events import Done, Error, ServiceInfo, TurnAccepted, TurnContent, TurnDone
from lastword.wire import encode_json
from service.clock import as_ns
from service.store.data import Record


class TurnIds(Struct, frozen=True):
    """What names a turn and its root span, in hexadecimal digits."""

    turn_id: str
    trace_id: str
    span_id: str


def accepted_record(
    ids: TurnIds, *, started_at: datetime, deadline_ms: int, conversation_id: str, service: ServiceInfo
) -> Record:
    """Makes a turn that never ends visible."""
    body = TurnAccepted(
        turn_id=ids.turn_id,
        trace_id=ids.trace_id,
        span_id=ids.span_id,
        started_at=started_at,
        deadline_ms=deadline_ms,
        conversation_id=conversation_id,
        service=service,
    )
    return _record(names.RECORD_ACCEPTED, ids, started_at, encode_json(body))


def done_record(ids: TurnIds, terminal: Done | Error, *, ended_at: datetime, content: TurnContent | None) -> Record:
    """The terminal as the collector gets it."""
    done = terminal.metadata if isinstance(terminal, Done) else None
    body = TurnDone(
        turn_id=ids.turn_id,
        trace_id=ids.trace_id,
        span_id=ids.span_id,
        ended_at=ended_at,
        terminal="done" if isinstance(terminal, Done) else "error",
        answer_chars=len(done.answer) if done else 0,
        done=structs.replace(done, answer="") if done else None,
        error=terminal.metadata if isinstance(terminal, Error) else None,
        error_code=terminal.code if isinstance(terminal, Error) else None,
        error_message=terminal.message if isinstance(terminal, Error) else None,
        retryable=terminal.retryable if isinstance(terminal, Error) else None,
        content=content,
    )
    return _record(names.RECORD_DONE, ids, ended_at, encode_json(body))


def _record(event_name: str, ids: TurnIds, at: datetime, body: bytes) -> Record:
    return Record(
        event_name=event_name,
        turn_id=ids.turn_id,
        trace_id=ids.trace_id,
        span_id=ids.span_id,
        time_ns=as_ns(at),
        body=body.decode(),
    )
