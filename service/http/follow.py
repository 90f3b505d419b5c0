"""A turn as HTTP answers: the stream of one that begins, the replay of one that runs or has ended, its state, its cancellation.

Owns which response a turn gets, here, at another instance or from the database. Knows no request: whoever calls has found out who asks and that the turn
is theirs.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import Response

from lastword.errors import WireError
from lastword.ids import parse_frame_id
from lastword.wire import encode_json
from service import problems
from service.cursor import Cursor
from service.http.problem import problem
from service.http.stream import event_stream, mirror_stream, stored_stream
from service.run.turn import Turn
from service.service import TurnService
from service.store.data import StoredTurn
from service.turn.failures import FailureKind

_ACK_POLL_S = 30.0


async def begun(service: TurnService, turn: Turn) -> Response[Any]:
    """The answer to who has asked: the stream once the turn is acknowledged, else the HTTP problem that it met."""
    cursor = turn.log.cursor()
    first = await _first_frames(cursor)
    if first is None:
        return await _without_ack(service, turn)
    return event_stream(service, turn, cursor, first, resumed_from=0)


async def _first_frames(cursor: Cursor) -> bytes | None:
    """Waits for the turn's first frames; None where it was refused before its `ack`.

    What runs before `ack` is bounded by the time-outs of the database.
    """
    while (data := await cursor.next(_ACK_POLL_S)) is not None:
        if data:
            return data
    cursor.close()
    return None


async def _without_ack(service: TurnService, turn: Turn) -> Response[Any]:
    """The answer for a turn that was refused, or that is another one by its idempotency key."""
    if turn.attached_to is not None:
        return await followed(service, turn.attached_to, after=0, replayed=True)
    rejected = turn.rejected or problems.internal()
    service.metrics.rejected(rejected.status)
    return problem(rejected, turn.trace.trace_id)


async def followed(service: TurnService, turn_id: str, *, after: int, replayed: bool = False) -> Response[Any]:
    """The events behind a cursor, then what comes live; 204 where the cursor is at the terminal.

    Raises:
        Rejected: 404, 409 where the cursor is ahead, 410 where the events are no longer kept, 503.
    """
    turn = service.directory.find(turn_id)
    if turn is not None and not turn.lost:
        return await _followed_here(service, turn, after, replayed=replayed)
    stored = await service.read(lambda: service.deps.store.find_turn(turn_id))
    if stored is None:
        raise problems.not_found("turn")
    if stored.state == "open":
        log = await service.mirror(turn_id)
        _check_cursor(after, log.shown_seq)
        cursor = service.watch(log, after)
        first = b"" if log.shown_seq else await _first_frames(cursor)
        if first is None:
            raise problems.ended_before_ack()
        return mirror_stream(service, turn_id, cursor, first, replayed=replayed)
    frames = None
    if not service.expired(stored):
        frames = await service.read(lambda: service.deps.store.find_log(turn_id))
    if replayed and not stored.last_seq:
        raise problems.ended_before_ack()  # between the look at the key and now
    if not frames:
        raise problems.Rejected(410, "Gone", "The events of this turn are no longer kept.")
    return _replay(service, stored, frames, after, replayed=replayed)


async def _followed_here(service: TurnService, turn: Turn, after: int, *, replayed: bool) -> Response[Any]:
    """Follows a turn of this process."""
    log = turn.log
    if after == 0 and log.shown_seq == 0:
        cursor = service.watch(log, 0)  # not acknowledged yet: what it will be is known in a moment
        first = await _first_frames(cursor)
        if first is None:
            return problem(turn.rejected or problems.internal(), turn.trace.trace_id)
        return event_stream(service, turn, cursor, first, resumed_from=0, replayed=replayed)
    _check_cursor(after, log.shown_seq)
    if log.closed and after == log.last_seq:
        return Response(None, status_code=204)
    return event_stream(service, turn, service.watch(log, after), b"", resumed_from=after, replayed=replayed)


def _check_cursor(after: int, last_seq: int) -> None:
    if after > last_seq:
        raise problems.Rejected(409, "Conflict", f"The turn has {last_seq} events; the cursor is behind event {after}.")


def _replay(service: TurnService, stored: StoredTurn, frames: bytes, after: int, *, replayed: bool) -> Response[Any]:
    _check_cursor(after, stored.last_seq)
    if after == stored.last_seq:
        return Response(None, status_code=204)
    parts = frames.split(b"\n\n", after)  # frames hold no blank line: their data is one line of JSON
    return stored_stream(service, stored.turn_id, parts[after], replayed=replayed)


async def looked_at(service: TurnService, turn_id: str, *, status: int = 200) -> Response[bytes]:
    """A turn's state, as JSON.

    Raises:
        Rejected: 404.
    """
    turn = service.directory.find(turn_id)
    if turn is not None and not turn.lost:
        terminal = encode_json(turn.log.terminal) if turn.log.terminal else b"null"
        return _state_response(turn_id, turn.machine.state.value, turn.log.shown_seq, terminal, status)
    stored = await service.read(lambda: service.deps.store.find_turn(turn_id))
    if stored is None:
        raise problems.not_found("turn")
    return _state_response(turn_id, stored.state, stored.last_seq, (stored.terminal or "null").encode(), status)


def _state_response(turn_id: str, state: str, last_seq: int, terminal: bytes, status: int) -> Response[bytes]:
    body = msgspec.json.encode({"turnId": turn_id, "state": state, "lastSeq": last_seq, "terminal": msgspec.Raw(terminal)})
    return Response(body, status_code=status, media_type="application/json")


async def cancelled(service: TurnService, turn_id: str) -> Response[bytes]:
    """Stops a turn: 202 while it runs, 200 with the terminal once it has ended.

    Raises:
        Rejected: 404.
    """
    turn = service.directory.find(turn_id)
    if turn is not None and not turn.log.closed:
        turn.control.stop(FailureKind.CANCELLED)
        return await looked_at(service, turn_id, status=202)
    stored = await service.read(lambda: service.deps.store.find_turn(turn_id)) if turn is None else None
    if stored is not None and stored.state == "open":
        await service.cancel_elsewhere(turn_id)
        return await looked_at(service, turn_id, status=202)
    return await looked_at(service, turn_id, status=200)


def cursor_of(turn_id: str, last_event_id: str | None, after: str | None) -> int:
    """The event behind which a client continues: a number, or an event's id; the header goes first. 0 where it names none.

    Raises:
        Rejected: 400, where that is no place in this turn.
    """
    text = last_event_id if last_event_id is not None else after
    if not text:
        return 0
    if text.isascii() and text.isdigit() and len(text) <= 15:
        return int(text)
    try:
        named, seq = parse_frame_id(text)
    except WireError as error:
        raise problems.invalid(str(error)) from error
    if named != turn_id:
        raise problems.invalid("The event id belongs to another turn.")
    return seq


async def owner_of(service: TurnService, turn_id: str) -> str | None:
    """The caller that a turn belongs to; None where there is no such turn."""
    turn = service.directory.find(turn_id)
    if turn is not None and turn.stored:
        return turn.caller
    stored = await service.read(lambda: service.deps.store.find_turn(turn_id))
    return stored.caller if stored else None
