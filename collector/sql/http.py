"""`POST /v1/sql` and the handlers around it: status, health, metrics."""

from __future__ import annotations

import time
from http import HTTPStatus
from typing import Any

import duckdb
import msgspec
from litestar import Request, Response, get, post
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.params import JSONBody

from collector.sql.surface import MEDIA_TYPES, Query, QueryError, SqlSurface, opened_anew
from lastword import __version__

PROBLEM_TYPE = "application/problem+json"


def problem(status: int, title: str, detail: str) -> Response[bytes]:
    """A problem document (RFC 9457)."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    headers = {"Retry-After": "1"} if status == 503 else {}
    return Response(msgspec.json.encode(body), status_code=status, media_type=PROBLEM_TYPE, headers=headers)


def on_query_error(_: Request[Any, Any, Any], error: QueryError) -> Response[bytes]:
    """A query that was refused or failed."""
    return problem(error.status, error.title, error.detail)


def on_lost_file(request: Request[Any, Any, Any], _: duckdb.Error) -> Response[bytes]:
    """A read of the store while its file is opened anew."""
    return on_query_error(request, opened_anew())


def on_http_exception(_: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    """What the framework refuses, with what it says of each field."""
    extra = error.extra if isinstance(error.extra, list) else []
    reasons = [
        f"{item.get('key', '')}: {item.get('message', '')}".removeprefix(": ") for item in extra[:5] if isinstance(item, dict)
    ]
    detail = "; ".join(reasons) or error.detail
    return problem(error.status_code, HTTPStatus(error.status_code).phrase, detail if error.status_code < 500 else "")


@post("/v1/sql", status_code=200, summary="Run one read-only query", tags=["sql"])
async def run_sql(data: JSONBody[Query], state: State) -> Response[bytes]:
    """The result in the format that was asked for; `Lastword-Truncated: true` where rows were left out."""
    surface: SqlSurface = state.surface
    result = await surface.run(data)
    headers = {"Lastword-Rows": str(result.rows), "Lastword-Truncated": str(result.truncated).lower()}
    return Response(result.body, media_type=MEDIA_TYPES[data.format], headers=headers)


@get("/v1/status", summary="How fresh the store is", tags=["house"])
async def status(state: State) -> Response[dict[str, Any]]:
    """Counts, the newest turn, the lag, the queue."""
    newest = await state.read(state.store.newest)
    ended_ns = newest.pop("newestEndedNs")
    age_ms = None if ended_ns is None else max(0, time.time_ns() - ended_ns) // 1_000_000
    body = newest | {
        "newestEndedAgeMs": age_ms,
        "queueDepth": state.writer.waiting_rows,
        "ingestLagMs": state.lag_ms(),
        "startedAt": state.started_at,
        "version": __version__,
    }
    return Response(body)


@get("/health/live", summary="Whether the process runs", tags=["house"])
async def live() -> dict[str, str]:
    """Always ok."""
    return {"status": "ok", "version": __version__}


@get("/health/ready", summary="Whether data is taken", tags=["house"])
async def ready(state: State) -> Response[dict[str, str]]:
    """503 while draining."""
    draining = state.receiver.draining
    return Response({"status": "draining" if draining else "ok"}, status_code=503 if draining else 200)


@get("/metrics", summary="Prometheus metrics", tags=["house"])
async def prometheus(state: State) -> Response[bytes]:
    """The Prometheus text."""
    body = await state.read(state.metrics.render)
    return Response(body, media_type="text/plain; version=0.0.4; charset=utf-8")
