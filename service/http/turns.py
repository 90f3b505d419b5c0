"""Handlers of turns: ask, follow, look, cancel. Thin: they translate between HTTP and the running service."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.params import JSONBody, Parameter

from lastword.events import TurnRequest
from lastword.wire import encode_json
from service import problems
from service.access.callers import require
from service.access.grants import Scope
from service.clock import Anchor
from service.http.documented import json_object, nothing, refusals, stream, turn_state
from service.http.follow import begun, cancelled, cursor_of, followed, looked_at, owner_of
from service.run.turn import Ask
from service.service import TurnService

HttpRequest = Request[Any, Any, State]
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
    responses={
        200: stream("The turn was acknowledged: its events."),
        **refusals(400, 401, 403, 404, 406, 409, 410, 413, 422, 429, 503),
    },
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
    return await begun(service, turn)


@get(
    "/v1/turns/{turn_id:str}/events",
    summary="Follow or replay a turn's events",
    tags=["turns"],
    responses={
        200: stream("The events behind the cursor, then live."),
        204: nothing("The cursor is at the terminal."),
        **refusals(400, 401, 403, 404, 406, 409, 410, 503),
    },
)
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
    return await followed(service, turn_id, after=cursor_of(turn_id, last_event_id, after))


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
    if await owner_of(service, turn_id) != caller:
        raise problems.not_found("turn")


@get(
    "/v1/turns/{turn_id:str}",
    summary="A turn's state, and its terminal once there is one",
    tags=["turns"],
    responses={200: turn_state("The turn."), **refusals(400, 401, 403, 404, 406)},
)
async def look_at_turn(request: HttpRequest, turn_id: str, state: State) -> Response[bytes]:
    """JSON with `turnId`, `state`, `lastSeq`, and `terminal`."""
    service = service_of(state)
    await _owned(service, request, turn_id, Scope.READ)
    return await looked_at(service, turn_id)


@post(
    "/v1/turns/{turn_id:str}/cancel",
    status_code=202,
    summary="Stop a turn",
    tags=["turns"],
    responses={
        200: turn_state("It had ended."),
        202: turn_state("It was told to stop."),
        **refusals(400, 401, 403, 404, 406, 503),
    },
)
async def cancel_turn(request: HttpRequest, turn_id: str, state: State) -> Response[bytes]:
    """202 while it runs; 200 with the terminal once it has ended. Idempotent."""
    service = service_of(state)
    await _owned(service, request, turn_id, Scope.ASK)
    return await cancelled(service, turn_id)


@get(
    "/v1/conversations/{conversation_id:str}",
    summary="The canonical messages of a conversation",
    tags=["conversations"],
    responses={200: json_object("The messages."), **refusals(400, 401, 403, 404, 406)},
)
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
