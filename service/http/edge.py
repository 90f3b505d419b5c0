"""What every answer has in common, and what every request is asked first: versions, trace ids, headers, and who may call from a browser.

Pure but for the state of a request. The framework calls `protect` for each message that leaves, so that an error's answer is protected, too.
"""

from __future__ import annotations

import re
import secrets
from typing import Any

from litestar.config.cors import CORSConfig
from litestar.connection import ASGIConnection
from litestar.datastructures import MutableScopeHeaders
from litestar.handlers.base import BaseRouteHandler
from litestar.types import Message, Scope

from lastword import CONTRACT
from service.problems import not_spoken

AnyConnection = ASGIConnection[Any, Any, Any, Any]

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "lastword",  # without a version; or granian would put its own name there
}
"""Set where a handler has not set its own. A page from elsewhere that may read an answer does so by CORS, which the last one leaves alone."""
EXPOSED = ["Turn-Id", "Turn-Contract", "Idempotency-Replayed", "Retry-After"]
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_PREFLIGHT_S = 600


async def protect(message: Message, scope: Scope) -> None:
    """Adds the headers that keep an answer from being taken for something else. Answers of the API are nobody's to keep."""
    if message["type"] != "http.response.start":
        return
    headers = MutableScopeHeaders.from_message(message)
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    if scope["path"].startswith("/v1/"):
        headers.setdefault("Cache-Control", "no-store")


def require_contract(asked: str | None) -> None:
    """A client may name the versions that it understands, in `Turn-Contract`; without the header it takes what there is.

    Raises:
        Rejected: 406 with the list, where none of them is spoken here.
    """
    if asked is not None and CONTRACT not in {version.strip() for version in asked.split(",")}:
        raise not_spoken()


def speaks_contract(connection: AnyConnection, _: BaseRouteHandler) -> None:
    """`require_contract` as a guard."""
    require_contract(connection.headers.get("turn-contract"))


def trace_id_in(traceparent: str | None) -> str:
    """The trace id for a request's problem document and our log: the caller's where there is one, else made up."""
    match = _TRACEPARENT.fullmatch(traceparent or "")
    return match[1] if match else secrets.token_hex(16)


def trace_id_of(connection: AnyConnection) -> str:
    """The trace id of a request, the same however often it is asked for."""
    known = connection.scope.setdefault("lastword.trace_id", "")  # type: ignore[typeddict-item]
    if not known:
        known = trace_id_in(connection.headers.get("traceparent"))
        connection.scope["lastword.trace_id"] = known  # type: ignore[typeddict-unknown-key]  # the framework's type knows its own keys only
    return str(known)


def cors(origins: tuple[str, ...]) -> CORSConfig | None:
    """Which pages may call; none where no origin is listed. Never with cookies: a caller presents its key."""
    if not origins:
        return None
    return CORSConfig(
        allow_origins=list(origins),
        allow_methods=["GET", "POST"],
        allow_headers=[
            "authorization",
            "content-type",
            "idempotency-key",
            "last-event-id",
            "traceparent",
            "tracestate",
            "turn-contract",
        ],
        expose_headers=EXPOSED,
        max_age=_PREFLIGHT_S,
    )
