"""The page at `/try`: ask in a browser, and see everything that a turn tells.

Owns three files, read once, and the headers that keep the page to itself: no script, style or request but the service's own. Knows no turn: the page talks
to the service as any client does. Invariant: what is served holds no secret and no person's data, so that it needs no key.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from litestar import Request, Response, get
from litestar.datastructures import State
from litestar.handlers import HTTPRouteHandler
from litestar.response import Redirect
from msgspec import Struct

from service.providers.faults import FaultName
from service.settings import ServiceSettings

_STATIC = Path(__file__).parent / "static"
_TYPES = {"try.html": "text/html", "try.css": "text/css", "try.js": "text/javascript"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; "  # the icon, which stands in the page
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",  # kept, but asked for with its tag: a new version is seen at once
}


class _File(Struct, frozen=True):
    """One file as it is served."""

    body: bytes
    etag: str
    media_type: str


def handlers(settings: ServiceSettings, routes: Iterable[str]) -> list[HTTPRouteHandler]:
    """The page's handlers; none where the settings turn it off."""
    if not settings.try_page_on:
        return []
    offered = {
        "routes": " ".join(routes),
        # Only the embedded provider fails on purpose, and only where a request may ask for it.
        "faults": " ".join(FaultName) if settings.provider == "extractive" and settings.faults_by_request else "",
        "dashboard": settings.dashboard_url,
    }
    files = {name: _load(name, offered) for name in _TYPES}

    @get("/try", include_in_schema=False)
    async def page(request: Request[Any, Any, State]) -> Response[Any]:
        """The page."""
        if request.scope["raw_path"].endswith(b"/"):  # what the page names is relative to where it stands
            return Redirect("../try", status_code=308)
        return _serve(request, files["try.html"])

    @get("/try/try.css", include_in_schema=False)
    async def style(request: Request[Any, Any, State]) -> Response[Any]:
        """Its style."""
        return _serve(request, files["try.css"])

    @get("/try/try.js", include_in_schema=False)
    async def script(request: Request[Any, Any, State]) -> Response[Any]:
        """Its script."""
        return _serve(request, files["try.js"])

    return [page, style, script]


def _load(name: str, offered: dict[str, str]) -> _File:
    text = (_STATIC / name).read_text(encoding="utf-8")
    for word, value in offered.items():
        text = text.replace(f"{{{{{word}}}}}", html.escape(value))
    body = text.encode()
    return _File(body, f'"{hashlib.sha256(body).hexdigest()[:32]}"', _TYPES[name])


def _serve(request: Request[Any, Any, State], file: _File) -> Response[Any]:
    headers = _HEADERS | {"ETag": file.etag}
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if file.etag in known:
        return Response(None, status_code=304, headers=headers, media_type=file.media_type)
    return Response(file.body, headers=headers, media_type=file.media_type)
