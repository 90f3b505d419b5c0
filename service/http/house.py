"""Handlers around the turns: health, metrics, what the contract is here, and the documents that answers come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from litestar import Response, get
from litestar.datastructures import State
from litestar.openapi.datastructures import ResponseSpec
from sqlalchemy.exc import SQLAlchemyError

from lastword import CONTRACT, __version__
from service import problems
from service.http.documented import json_object, refusals, text
from service.http.turns import service_of
from service.service import TurnService

_TEXT_SUFFIXES = frozenset({".md", ".markdown", ".txt", ".html", ".htm", ".json"})
_MAX_DOCUMENT_BYTES = 4 * 1024 * 1024


@get("/health/live", summary="Whether the process runs", tags=["house"])
async def live() -> dict[str, str]:
    """Always ok."""
    return {"status": "ok", "version": __version__}


@get(
    "/health/ready",
    summary="Whether turns are taken",
    tags=["house"],
    responses={503: ResponseSpec(dict[str, str], description="Not now; `status` says why.", generate_examples=False)},
)
async def ready(state: State) -> Response[dict[str, str]]:
    """503 while the index is built, while draining, and where the database cannot be reached."""
    service = service_of(state)
    why = "draining" if service.draining else "" if state.index_ready() else "building the index"
    if not why:
        try:
            await service.read(service.deps.store.ping)
        except SQLAlchemyError:
            why = "the database cannot be reached"
    return Response({"status": why or "ok"}, status_code=503 if why else 200)


@get("/metrics", summary="Prometheus metrics", tags=["house"], responses={200: text("Prometheus text.")})
async def metrics(state: State) -> Response[bytes]:
    """The Prometheus text."""
    service = service_of(state)
    body = await service.read(service.metrics.render)
    return Response(body, media_type="text/plain; version=0.0.4")


@get(
    "/.well-known/turn-contract",
    summary="Versions and limits",
    tags=["house"],
    responses={200: json_object("What a client may rely on.")},
)
async def turn_contract(state: State) -> Response[bytes]:
    """What a client may rely on here."""
    return Response(msgspec.json.encode(contract_document(service_of(state))), media_type="application/json")


def contract_document(service: TurnService) -> dict[str, Any]:
    """What a client may rely on: versions, limits, durations, durability."""
    settings = service.deps.settings
    return {
        "versions": [CONTRACT],
        "service": msgspec.to_builtins(service.deps.info),
        "routes": service.deps.routes.names,
        "limits": {
            "maxMessageChars": settings.max_message_chars,
            "maxBodyBytes": settings.max_body_bytes,
            "maxLogBytes": settings.max_log_bytes,
            "maxTurns": settings.max_turns,
            "maxViewers": settings.max_viewers,
        },
        "heartbeatMs": settings.heartbeat_ms,
        "sendTimeoutMs": settings.send_timeout_ms,
        "disconnectGraceMs": settings.disconnect_grace_ms,
        "drainMs": round(settings.drain_s * 1000),
        "retention": {"logMs": settings.log_retention_s * 1000, "turnMs": settings.turn_retention_s * 1000},
        "durability": {"accepted": "fsync", "ack": "fsync", "chunks": "stored before they are shown", "terminal": "fsync"},
    }


@get(
    "/docs/{path:path}",
    summary="A document of the corpus",
    tags=["house"],
    responses={200: text("The document."), **refusals(400, 404)},
)
async def document(path: Path, state: State) -> Response[bytes]:
    """The text of a document that has no URL of its own, so that a source can be opened."""
    service = service_of(state)
    relative = str(path).lstrip("/")
    body = await service.read(lambda: _read_document(state.corpus(), relative))
    # As plain text whatever it is: a document of the corpus must not run scripts in the service's origin.
    return Response(body, media_type="text/plain", headers={"X-Content-Type-Options": "nosniff"})


def _read_document(corpus: Path, relative: str) -> bytes:
    root = (corpus if corpus.is_dir() else corpus.parent).resolve()
    target = (root / relative).resolve()
    readable = target.is_relative_to(root) and target.suffix.lower() in _TEXT_SUFFIXES and target.is_file()
    if not readable or target.stat().st_size > _MAX_DOCUMENT_BYTES:
        raise problems.not_found("document")
    return target.read_bytes()
