"""Handlers of turns: ask, follow, look, cancel. Thin: they translate between HTTP and the running service."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import JSONBody, Parameter

from lastword.errors import WireError
from lastword.events import TurnRequest
from lastword.ids import parse_frame_id
from lastword.wire import encode_json
from service import problems
from service.access.callers import require
from service.access.grants import Scope
from service.clock import Anchor
from service.http.problem import problem
from service.http.stream import event_stream, mirror_stream, stored_stream
from service.log import Cursor
from service.run.turn import Ask, Turn
from service.service import TurnService
from service.store.data import StoredTurn
from service.turn.failures import FailureKind

HttpRequest = Request[Any, Any, State]
_ACK_POLL_S = 30.0
_MAX_KEY_CHARS = 255


def service_of(state: State) -> TurnService:
    """The running service behind the application."""
    service: TurnService = state.service
    return service


def bearer_of(request: HttpRequest) -> str | None:
    """The key that the caller presented."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


async def stamp(request: HttpRequest) -> None:
    """Takes the moment of acceptance before the body is read."""
    request.state.anchor = Anchor.of(service_of(request.app.state).deps.clock)


@post(
    "/v1/turns",
    status_code=200,
    before_request=stamp,
    summary="Ask a question; the answer is a stream of events",
    tags=["turns"],
)
async def create_turn(
    request: HttpRequest,
    data: JSONBody[TurnRequest],
    state: State,
    idempotency_key: Annotated[str | None, Parameter(header="Idempotency-Key", max_length=_MAX_KEY_CHARS)] = None,
) -> Response[Any]:
    """`ack`, then `chunk`s, then one `done` or `error`, as server-sent events; an HTTP problem before `ack`."""
    service = service_of(state)
    ask = Ask(
        request=data,
        bearer=bearer_of(request),
        idempotency_key=idempotency_key,
        payload_sha256=hashlib.sha256(encode_json(data)).hexdigest(),
    )
    headers = request.headers
    try:
        turn = service.start(
            ask, request.state.anchor, traceparent=headers.get("traceparent"), tracestate=headers.get("tracestate")
        )
    except problems.Rejected as rejected:
        service.metrics.rejected(rejected.status)
        raise
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
        return await _follow(service, turn.attached_to, after=0, replayed=True)
    rejected = turn.rejected or problems.internal()
    service.metrics.rejected(rejected.status)
    return problem(rejected, turn.trace.trace_id)


@get("/v1/turns/{turn_id:str}/events", summary="Follow or replay a turn's events", tags=["turns"])
async def follow_turn(
    request: HttpRequest,
    turn_id: str,
    state: State,
    last_event_id: Annotated[str | None, Parameter(header="Last-Event-ID")] = None,
    after: Annotated[
        str | None, Parameter(query="after", description="Sequence number, or event id, to continue behind")
    ] = None,
) -> Response[Any]:
    """The log from its start, or behind a cursor, then live. 204 where the cursor is at the terminal."""
    service = service_of(state)
    await _owned(service, request, turn_id, Scope.READ)
    return await _follow(service, turn_id, after=_cursor(turn_id, last_event_id, after))


async def _follow(service: TurnService, turn_id: str, *, after: int, replayed: bool = False) -> Response[Any]:
    turn = service.directory.find(turn_id)
    if turn is not None and not turn.lost:
        return await _follow_here(service, turn, after, replayed=replayed)
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


async def _follow_here(service: TurnService, turn: Turn, after: int, *, replayed: bool) -> Response[Any]:
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


def _cursor(turn_id: str, last_event_id: str | None, after: str | None) -> int:
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


async def caller_of(service: TurnService, request: HttpRequest, scope: Scope) -> str:
    """The caller of a request that needs a scope.

    Raises:
        Rejected: 401, or 403 where the key lacks the scope.
    """
    bearer = bearer_of(request)
    callers = service.deps.callers
    grant = callers.remembered(bearer)
    if grant is None:
        grant = await service.read(lambda: callers.identify(bearer))
    require(grant, scope)
    return grant.caller


async def _owned(service: TurnService, request: HttpRequest, turn_id: str, scope: Scope) -> None:
    """Raises 401, 403, or 404 where the turn is not this caller's."""
    caller = await caller_of(service, request, scope)
    turn = service.directory.find(turn_id)
    if turn is not None and turn.stored:
        owner: str | None = turn.caller
    else:
        stored = await service.read(lambda: service.deps.store.find_turn(turn_id))
        owner = stored.caller if stored else None
    if owner != caller:
        raise problems.not_found("turn")


@get("/v1/turns/{turn_id:str}", summary="A turn's state, and its terminal once there is one", tags=["turns"])
async def look_at_turn(request: HttpRequest, turn_id: str, state: State) -> Response[bytes]:
    """JSON with `turnId`, `state`, `lastSeq`, and `terminal`."""
    service = service_of(state)
    await _owned(service, request, turn_id, Scope.READ)
    return await _snapshot(service, turn_id, status=200)


async def _snapshot(service: TurnService, turn_id: str, *, status: int) -> Response[bytes]:
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


@post("/v1/turns/{turn_id:str}/cancel", status_code=202, summary="Stop a turn", tags=["turns"])
async def cancel_turn(request: HttpRequest, turn_id: str, state: State) -> Response[bytes]:
    """202 while it runs; 200 with the terminal once it has ended. Idempotent."""
    service = service_of(state)
    await _owned(service, request, turn_id, Scope.ASK)
    turn = service.directory.find(turn_id)
    if turn is not None and not turn.log.closed:
        turn.control.stop(FailureKind.CANCELLED)
        return await _snapshot(service, turn_id, status=202)
    stored = await service.read(lambda: service.deps.store.find_turn(turn_id)) if turn is None else None
    if stored is not None and stored.state == "open":
        await service.cancel_elsewhere(turn_id)
        return await _snapshot(service, turn_id, status=202)
    return await _snapshot(service, turn_id, status=200)


@get("/v1/conversations/{conversation_id:str}", summary="The canonical messages of a conversation", tags=["conversations"])
async def look_at_conversation(
    request: HttpRequest,
    conversation_id: str,
    state: State,
    limit: Annotated[int, Parameter(ge=1, le=500)] = 100,
) -> Response[bytes]:
    """The newest messages, oldest first, as they were persisted."""
    service = service_of(state)
    caller = await caller_of(service, request, Scope.READ)
    owner = await service.read(lambda: service.deps.store.conversation_owner(conversation_id))
    if owner is None or owner != caller:
        raise problems.not_found("conversation")
    messages = await service.read(lambda: service.deps.store.messages(conversation_id, limit))
    body = {
        "conversationId": conversation_id,
        "messages": [
            {"role": m.role, "text": m.text, "turnId": m.turn_id, "partial": m.partial, "createdAt": m.created_at}
            for m in messages
        ],
    }
    return Response(msgspec.json.encode(body), media_type="application/json")
