"""The end of a turn: canonical answer, sources, and the one terminal, persisted before anybody sees it.

Invariant: the store's compare-and-set decides; the terminal is appended to the log only after it is committed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from itertools import count

from sqlalchemy.exc import SQLAlchemyError

from lastword.events import (
    Done,
    DoneMetadata,
    Error,
    ErrorMetadata,
    Timings,
    ToolOutcome,
    TurnContent,
    partial_for,
)
from lastword.events import ToolCall as ToolCallEvent
from lastword.states import Signal, State
from lastword.wire import encode_event, encode_json, scalar_text
from service.clock import as_datetime
from service.records import done_record
from service.run.deps import Deps
from service.run.turn import Turn
from service.store.data import EndedTurn, Message, Record
from service.store.engine import AWAY
from service.turn.answer import clean
from service.turn.failures import REASON_OF, FailureKind
from service.turn.policy import RETRYABLE_BY_CLIENT
from service.turn.timings import NS_PER_MS, stage_timings

logger = logging.getLogger(__name__)

_TRIES = 3
_PAUSE_S = 0.2
_PAUSE_CAP_S = 2.0

MESSAGES = {
    FailureKind.OVERLOADED: "The model is overloaded.",
    FailureKind.RATE_LIMITED: "The model is overloaded.",
    FailureKind.DEADLINE: "The answer took too long.",
    FailureKind.FIRST_TOKEN_TIMEOUT: "The model did not begin to answer in time.",
    FailureKind.SHUTDOWN: "The service is shutting down.",
}
"""Safe sentences by kind of failure. Anything else is 'could not be answered': details are for the operator's log."""


def finish(turn: Turn, deps: Deps) -> None:
    """Closes a turn that has a verdict with its `done`, from whatever state it stands in."""
    if turn.machine.state is State.STREAMING:
        turn.machine.step(Signal.LAST_CONTENT, turn.last_content_ns)
    if turn.machine.state not in (State.POST_PROCESS, State.FINALIZE):
        turn.step(Signal.PROCESS)
    shown = "".join(turn.shown)
    # Of a text that was cut, the answer is what was shown: what the cleaner still held back cannot be judged.
    turn.answer = scalar_text(clean("".join(turn.raw))) if turn.text_complete else shown
    turn.sources.add_from_answer(turn.answer)
    if turn.machine.state is State.POST_PROCESS:
        turn.step(Signal.FINALIZE)
    _close(turn, deps, _messages(turn), lambda: _done(turn, deps))


def fail(turn: Turn, deps: Deps, kind: FailureKind) -> None:
    """Closes a turn that showed nothing with an `error`; one that was not acknowledged has it in the database only."""
    turn.step(Signal.FAIL)
    _close(turn, deps, [], lambda: _error(turn, deps, kind))


def _close(turn: Turn, deps: Deps, messages: list[Message], build: Callable[[], Done | Error]) -> None:
    """Commits the terminal, then appends it: nobody sees a terminal that is not stored, or a crash would make another one.

    While the database is away the turn waits for it, and its viewers get heartbeats. Who has no `ack` yet does not wait for long, and an error that will not
    go away is not tried for ever. At shutdown there is one more try; what is still open then is closed by the next process, where clients resume.
    """
    turn.log.seal()

    def terminal() -> Done | Error:
        if turn.terminal is None:  # once: a second try to commit must not make a second terminal
            turn.terminal = build()
        return turn.terminal

    def close() -> tuple[EndedTurn, Record]:
        return _ended(turn, terminal()), _done_record(turn, deps, terminal())

    shutdown = turn.control.shutdown_event
    for attempt in count(1):
        last = shutdown.is_set()
        try:
            won = deps.store.end_turn(
                turn.turn_id, caller=turn.caller, conversation_id=turn.conversation_id, messages=messages, close=close
            )
        except SQLAlchemyError as error:
            logger.exception("the terminal of %s could not be stored (try %d)", turn.turn_id, attempt)
            patient = isinstance(error, AWAY) and turn.log.last_seq > 0
            if last or (attempt >= _TRIES and not patient):
                turn.log.close()
                return
            shutdown.wait(min(_PAUSE_CAP_S, _PAUSE_S * attempt))
        else:
            if not won:
                logger.error("%s had a terminal already; this one is dropped", turn.turn_id)
                turn.log.close()
                return
            break
    if turn.log.last_seq > 0:
        turn.log.append(terminal())
    deps.record_stored()


def _timings(turn: Turn, signal: Signal) -> tuple[int, Timings]:
    """Moves the machine to its end and takes the one reading that timings, spans and `tMs` share."""
    at_ns = turn.step(signal)
    timings = stage_timings(turn.machine.intervals(), first_token_ns=turn.machine.first_token_ns, total_ns=at_ns)
    return at_ns, timings


def _done(turn: Turn, deps: Deps) -> Done:
    if turn.verdict is None:
        raise AssertionError("a turn without a verdict cannot be done")
    at_ns, timings = _timings(turn, Signal.DONE_APPENDED)
    details = turn.sources.details(turn.chosen_route.max_sources)
    chunk_count = len(turn.shown)
    metadata = DoneMetadata(
        answer=turn.answer,
        chunk_count=chunk_count,
        streamed_sha256=turn.streamed_sha256,
        answer_matches_stream=turn.answer == "".join(turn.shown),
        sources=tuple(detail.url for detail in details),
        source_details=details,
        tools_used=_tools_used(turn),
        tools_with_results=_tools_with_results(turn),
        tool_calls=_tool_calls(turn),
        route=turn.chosen_route.name,
        model_tier=turn.tier,
        model=turn.model,
        conversation_id=turn.conversation_id,
        completion_status=turn.verdict.status,
        partial=partial_for(turn.verdict.status, chunk_count),
        reason=turn.verdict.reason,
        finish_reason=turn.verdict.finish_reason,
        usage=turn.usage,
        attempts=tuple(note.as_event() for note in turn.attempts),
        degraded=turn.degraded,
        fallback=turn.fallback,
        started_at=turn.anchor.at,
        stage_timings=timings,
        service=deps.info,
    )
    return Done(turn_id=turn.turn_id, seq=turn.log.last_seq + 1, t_ms=at_ns // NS_PER_MS, metadata=metadata)


def _error(turn: Turn, deps: Deps, kind: FailureKind) -> Error:
    at_ns, timings = _timings(turn, Signal.ERROR_APPENDED)
    metadata = ErrorMetadata(
        route=turn.route.name if turn.route else None,
        model_tier=turn.tier or None,
        model=turn.model if turn.attempts else None,
        conversation_id=turn.conversation_id or None,
        reason=REASON_OF[kind],
        tools_used=_tools_used(turn),
        tools_with_results=_tools_with_results(turn),
        tool_calls=_tool_calls(turn),
        usage=turn.usage,
        attempts=tuple(note.as_event() for note in turn.attempts),
        started_at=turn.anchor.at,
        stage_timings=timings,
        service=deps.info,
    )
    return Error(
        turn_id=turn.turn_id,
        seq=turn.log.last_seq + 1,
        t_ms=at_ns // NS_PER_MS,
        code=REASON_OF[kind].value,
        message=MESSAGES.get(kind, "The question could not be answered."),
        retryable=kind in RETRYABLE_BY_CLIENT,
        metadata=metadata,
    )


def _tools_used(turn: Turn) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note.name for note in turn.tool_notes))


def _tools_with_results(turn: Turn) -> tuple[str, ...]:
    return tuple(dict.fromkeys(note.name for note in turn.tool_notes if note.outcome is ToolOutcome.RESULTS))


def _tool_calls(turn: Turn) -> tuple[ToolCallEvent, ...]:
    return tuple(ToolCallEvent(name=note.name, outcome=note.outcome, duration_ms=note.duration_ms) for note in turn.tool_notes)


def _messages(turn: Turn) -> list[Message]:
    """The turn's part of its conversation; nothing where nothing was answered."""
    if not turn.answer or turn.verdict is None:
        return []
    now = as_datetime(turn.anchor.wall_ns + turn.now_ns())
    partial = partial_for(turn.verdict.status, len(turn.shown))
    asked = Message(role="user", text=turn.ask.request.message, turn_id=turn.turn_id, partial=False, created_at=turn.anchor.at)
    return [asked, Message(role="assistant", text=turn.answer, turn_id=turn.turn_id, partial=partial, created_at=now)]


def _ended(turn: Turn, terminal: Done | Error) -> EndedTurn:
    acknowledged = turn.log.last_seq > 0
    return EndedTurn(
        turn_id=turn.turn_id,
        state="done" if isinstance(terminal, Done) else "error",
        ended_at=_ended_at(turn),
        last_seq=terminal.seq if acknowledged else 0,
        terminal=encode_json(terminal).decode(),
        frames=turn.log.frames_bytes + encode_event(terminal) if acknowledged else b"",
        usage=terminal.metadata.usage,
    )


def _ended_at(turn: Turn) -> datetime:
    return as_datetime(turn.anchor.wall_ns + turn.machine.transitions[-1].at_ns)


def _done_record(turn: Turn, deps: Deps, terminal: Done | Error) -> Record:
    """The `turn.done` record of this turn."""
    content = None
    if deps.settings.capture_content:
        limit = deps.settings.max_content_chars
        content = TurnContent(prompt=turn.ask.request.message[:limit], answer=turn.answer[:limit])
    return done_record(turn.ids, terminal, ended_at=_ended_at(turn), content=content)
