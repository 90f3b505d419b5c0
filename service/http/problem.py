"""`application/problem+json` for everything that is not a stream (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from service.problems import Rejected

logger = logging.getLogger(__name__)

PROBLEM_TYPE = "application/problem+json"


def problem(rejected: Rejected, trace_id: str | None = None) -> Response[bytes]:
    """The response of a refused request."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": rejected.title,
        "status": rejected.status,
        "detail": rejected.detail,
    }
    if trace_id is not None:
        body["traceId"] = trace_id
    headers = {} if rejected.retry_after_s is None else {"Retry-After": str(rejected.retry_after_s)}
    if rejected.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(msgspec.json.encode(body), status_code=rejected.status, media_type=PROBLEM_TYPE, headers=headers)


def on_rejected(_: Request[Any, Any, Any], error: Rejected) -> Response[bytes]:
    """A refusal of our own."""
    return problem(error)


def on_http_exception(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """A refusal of the framework's: a wrong method, an unknown path, a body that does not decode."""
    detail = error.detail if error.status_code < 500 else ""
    extra = error.extra
    if isinstance(extra, list) and extra and isinstance(extra[0], dict) and "message" in extra[0]:
        reasons = (f"{item.get('key', '')}: {item.get('message', '')}".removeprefix(": ") for item in extra[:5])
        detail = f"{detail.partition(' for ')[0]}: {'; '.join(reasons)}"
    return problem(Rejected(error.status_code, HTTPStatus(error.status_code).phrase, detail))


def on_exception(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A bug of ours: the log says what, the client does not."""
    logger.error("a request failed", exc_info=error)
    return problem(Rejected(500, "Internal Server Error"))
