"""`application/problem+json` for everything that is not a stream (RFC 9457)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException

from service.http.documented import PROBLEM_TYPE
from service.http.edge import trace_id_of
from service.problems import Rejected

logger = logging.getLogger(__name__)


def problem(rejected: Rejected, trace_id: str) -> Response[bytes]:
    """The response of a refused request. `trace_id` finds it in the logs, and in telemetry where it is a turn's."""
    body: dict[str, Any] = {
        "type": "about:blank",
        "title": rejected.title,
        "status": rejected.status,
        "detail": rejected.detail,
        "traceId": trace_id,
        **rejected.more,
    }
    headers = {} if rejected.retry_after_s is None else {"Retry-After": str(rejected.retry_after_s)}
    if rejected.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(msgspec.json.encode(body), status_code=rejected.status, media_type=PROBLEM_TYPE, headers=headers)


def on_rejected(request: Request[Any, Any, Any], error: Rejected) -> Response[bytes]:
    """A refusal of our own."""
    return problem(error, trace_id_of(request))


def on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """A refusal of the framework's: a wrong method, an unknown path, a body that does not decode."""
    detail = error.detail if error.status_code < 500 else ""
    extra = error.extra
    if isinstance(extra, list) and extra and isinstance(extra[0], dict) and "message" in extra[0]:
        reasons = (f"{item.get('key', '')}: {item.get('message', '')}".removeprefix(": ") for item in extra[:5])
        detail = f"{detail.partition(' for ')[0]}: {'; '.join(reasons)}"
    return problem(Rejected(error.status_code, HTTPStatus(error.status_code).phrase, detail), trace_id_of(request))


def on_undecodable(request: Request[Any, Any, Any], error: RecursionError | UnicodeDecodeError) -> Response[bytes]:
    """A body that the framework's decoder breaks on, where it should refuse it: nested too deeply, or no UTF-8. Anything else of the kind is a bug of ours."""
    if isinstance(error, UnicodeDecodeError):
        return problem(Rejected(400, "Bad Request", "The body is not UTF-8."), trace_id_of(request))
    if "deserializing" in str(error):
        return problem(Rejected(400, "Bad Request", "The body is nested too deeply."), trace_id_of(request))
    return on_exception(request, error)


def on_exception(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A bug of ours: the log says what, the client does not."""
    trace_id = trace_id_of(request)
    logger.error("a request failed, trace %s", trace_id, exc_info=error)
    return problem(Rejected(500, "Internal Server Error"), trace_id)
