"""Closes turns whose process is gone: each gets its one terminal, from what is stored of it.

What viewers were shown is stored before they are shown it, so the terminal follows what they have seen: an interrupted, partial `done` where text was
visible, else an `error` that says that asking again helps. Pure but for the store; the compare-and-set there decides where several instances recover at once.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from datetime import datetime

from lastword.events import (
    Ack,
    Chunk,
    CompletionStatus,
    Done,
    DoneMetadata,
    Error,
    ErrorMetadata,
    Reason,
    ServiceInfo,
    Timings,
    TurnContent,
    Usage,
)
from lastword.wire import decode_stream, encode_event, encode_json
from service.records import TurnIds, done_record
from service.store.data import Closing, EndedTurn, Message, OpenTurn
from service.store.store import TurnStore

logger = logging.getLogger(__name__)

Kept = Mapping[str, Mapping[int, bytes]]
_UNKNOWN_USAGE = Usage(complete=False)
MESSAGE = "The service stopped while it worked on the answer. Please ask again."


def recover(
    store: TurnStore, turn_ids: list[str], *, kept: Kept, info: ServiceInfo, now: datetime, max_content_chars: int = 0
) -> int:
    """Closes these turns; how many were still open. `kept` are frames that were shown and perhaps not stored, by turn and sequence number. `max_content_chars` above 0 captures content, cut at that length.

    Raises:
        SQLAlchemyError: the database could not be used.
    """
    closed = 0
    for turn_id in turn_ids:
        if store.recover_turn(turn_id, kept.get(turn_id, {}), lambda turn: closing_of(turn, info, now, max_content_chars)):
            logger.warning("%s was left open by a process that is gone: closed as recovered", turn_id)
            closed += 1
    return closed


def closing_of(turn: OpenTurn, info: ServiceInfo, now: datetime, max_content_chars: int) -> Closing:
    """What is stored to close a turn."""
    events = [event for event in decode_stream(turn.frames) if isinstance(event, Ack | Chunk)]
    shown = "".join(event.text for event in events if isinstance(event, Chunk))
    terminal = _done(turn, events, shown, info, now) if shown else _error(turn, events, info, now)
    messages = []
    if shown and turn.question:
        asked = Message(role="user", text=turn.question, turn_id=turn.turn_id, partial=False, created_at=turn.accepted_at)
        messages = [asked, Message(role="assistant", text=shown, turn_id=turn.turn_id, partial=True, created_at=now)]
    ended = EndedTurn(
        turn_id=turn.turn_id,
        state="done" if isinstance(terminal, Done) else "error",
        ended_at=now,
        last_seq=terminal.seq if events else 0,
        terminal=encode_json(terminal).decode(),
        frames=turn.frames + encode_event(terminal) if events else b"",
    )
    content = None
    if max_content_chars:
        content = TurnContent(prompt=turn.question[:max_content_chars], answer=shown[:max_content_chars])
    record = done_record(TurnIds(turn.turn_id, turn.trace_id, turn.span_id), terminal, ended_at=now, content=content)
    return Closing(ended=ended, record=record, messages=messages)


def _done(turn: OpenTurn, events: list[Ack | Chunk], shown: str, info: ServiceInfo, now: datetime) -> Done:
    ack = next(event for event in events if isinstance(event, Ack))  # there is no chunk without
    metadata = DoneMetadata(
        answer=shown,
        chunk_count=len(events) - 1,
        streamed_sha256=hashlib.sha256(shown.encode()).hexdigest(),
        answer_matches_stream=True,
        sources=(),
        source_details=(),
        tools_used=(),
        tools_with_results=(),
        tool_calls=(),
        route=ack.route,
        model_tier=ack.model_tier,
        model=None,
        conversation_id=turn.conversation_id,
        completion_status=CompletionStatus.INTERRUPTED,
        partial=True,
        reason=Reason.SERVER_CRASH,
        finish_reason=None,
        usage=_UNKNOWN_USAGE,
        attempts=(),
        degraded=False,
        fallback=False,
        started_at=turn.accepted_at,
        stage_timings=_timings(events),
        service=info,
        recovered=True,
    )
    return Done(turn_id=turn.turn_id, seq=len(events) + 1, t_ms=_age_ms(turn, now), metadata=metadata)


def _error(turn: OpenTurn, events: list[Ack | Chunk], info: ServiceInfo, now: datetime) -> Error:
    ack = events[0] if events and isinstance(events[0], Ack) else None
    metadata = ErrorMetadata(
        route=ack.route if ack else None,
        model_tier=ack.model_tier if ack else None,
        conversation_id=turn.conversation_id,
        reason=Reason.SERVER_CRASH,
        usage=_UNKNOWN_USAGE,
        started_at=turn.accepted_at,
        stage_timings=_timings(events),
        service=info,
        recovered=True,
    )
    return Error(
        turn_id=turn.turn_id,
        seq=len(events) + 1,
        t_ms=_age_ms(turn, now),
        code=Reason.SERVER_CRASH.value,
        message=MESSAGE,
        retryable=True,
        metadata=metadata,
    )


def _timings(events: list[Ack | Chunk]) -> Timings:
    """What the frames tell: the total is the last sign of life, not the time of the recovery, which may be hours later."""
    chunks = [event.t_ms for event in events if isinstance(event, Chunk)]
    stream = chunks[-1] - chunks[0] if chunks else None
    return Timings(
        **({} if stream is None else {"stream_ms": stream}),
        first_token_ms=chunks[0] if chunks else None,
        total_ms=events[-1].t_ms if events else 0,
    )


def _age_ms(turn: OpenTurn, now: datetime) -> int:
    return max(0, round((now - turn.accepted_at).total_seconds() * 1000))
