"""What the OpenAPI document says of answers: streams, states and problems. Owns words and shapes; answers nothing itself."""

from __future__ import annotations

from typing import Annotated, Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Components, SecurityScheme
from msgspec import Meta, Struct

from lastword.wire import MEDIA_TYPE

PROBLEM_TYPE = "application/problem+json"


class Problem(Struct, frozen=True, kw_only=True, rename="camel"):
    """A refusal (RFC 9457). `trace_id` finds the request in logs and telemetry."""

    type: str
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    trace_id: Annotated[str, Meta(pattern="^[0-9a-f]{32}$")]


class TurnState(Struct, frozen=True, kw_only=True, rename="camel"):
    """A turn as it stands: `terminal` is its `done` or `error` event, once there is one."""

    turn_id: str
    state: str
    last_seq: Annotated[int, Meta(ge=0)]
    terminal: dict[str, Any] | None


class StreamEvent(Struct, frozen=True, kw_only=True):
    """One server-sent event: `id` is `{turnId}.{seq}`, `data` the event's JSON on one line. What stands in it is said by the turn contract."""

    event: str
    id: str
    data: str


_WHY = {
    400: "The request cannot be read, or says something that cannot be used.",
    401: "No key, or one that is not known.",
    403: "The key lacks a scope.",
    404: "Nothing there, or nothing that this caller may see.",
    406: "None of the contract versions that `Turn-Contract` names is spoken here.",
    409: "The cursor is ahead of the turn.",
    410: "The events are no longer kept.",
    413: "The body or the message is too long.",
    422: "The `Idempotency-Key` was used before with another payload.",
    429: "The caller has used up what it may use for now; `Retry-After` says when to come back.",
    503: "No worker is free, the service is ending, or its database is away; `Retry-After` says when to come back.",
}


def refusals(*statuses: int) -> dict[int, ResponseSpec]:
    """The problems that a call may be answered with."""
    return {
        status: ResponseSpec(Problem, description=_WHY[status], media_type=PROBLEM_TYPE, generate_examples=False)
        for status in statuses
    }


def stream(description: str) -> ResponseSpec:
    """A stream of server-sent events."""
    return ResponseSpec(StreamEvent, description=description, media_type=MEDIA_TYPE, generate_examples=False)


def turn_state(description: str) -> ResponseSpec:
    """A turn's state."""
    return ResponseSpec(TurnState, description=description, generate_examples=False)


def json_object(description: str) -> ResponseSpec:
    """A JSON object."""
    return ResponseSpec(dict[str, Any], description=description, generate_examples=False)


def text(description: str) -> ResponseSpec:
    """Plain text."""
    return ResponseSpec(str, description=description, media_type="text/plain", generate_examples=False)


def nothing(description: str) -> ResponseSpec:
    """An answer without a body."""
    return ResponseSpec(None, description=description)


COMPONENTS = Components(
    security_schemes={"key": SecurityScheme(type="http", scheme="bearer", description="A key made by `lastword keys create`.")}
)
SECURITY: list[dict[str, list[str]]] = [{"key": []}, {}]
"""A key; on loopback none is needed as long as none was made."""
