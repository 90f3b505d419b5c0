"""What people ask of the alerts over HTTP: a silence, its end, a test. Everything else about them is SQL."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Response, delete, post
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import ClientException, NotFoundException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath, JSONBody
from msgspec import Meta, Struct

from collector.alerts.alerts import Alerts

_MAX_MINUTES = 30 * 24 * 60


_Name = Annotated[str, Meta(max_length=200)]


def from_a_program(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuses what a page of somebody else's could make a browser send: browsers name the origin."""
    if "origin" in connection.headers:
        raise PermissionDeniedException("this is no call for a browser")


def of_json(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Refuses what a browser's form could send without asking for leave."""
    if not connection.headers.get("content-type", "").startswith("application/json"):
        raise ClientException("the content type is to be application/json", status_code=415)


class SilenceRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Body of `POST /v1/alerts/silences`: what is left out stands for every value."""

    rule: _Name | None = None
    route: _Name | None = None
    model_tier: _Name | None = None
    minutes: Annotated[int, Meta(ge=1, le=_MAX_MINUTES)] = 60
    comment: Annotated[str, Meta(max_length=500)] = ""


@post(
    "/v1/alerts/silences",
    guards=[from_a_program, of_json],
    status_code=201,
    summary="Tell nobody of some alerts for a while",
    tags=["alerts"],
)
async def silence(data: JSONBody[SilenceRequest], state: State) -> Response[dict[str, Any]]:
    """The silence."""
    alerts: Alerts = state.alerts
    made = await state.read(lambda: alerts.silence(**msgspec.structs.asdict(data)))
    return Response({"silenceId": made.silence_id, "endsNs": made.ends_ns}, status_code=201)


@delete(
    "/v1/alerts/silences/{silence_id:str}", guards=[from_a_program], status_code=204, summary="End a silence", tags=["alerts"]
)
async def end_silence(silence_id: FromPath[str], state: State) -> None:
    """404 where none of that id holds."""
    alerts: Alerts = state.alerts
    if not await state.read(lambda: alerts.end_silence(silence_id)):
        raise NotFoundException(f"no silence {silence_id} holds now")


@post(
    "/v1/alerts/test", guards=[from_a_program, of_json], status_code=202, summary="Send every receiver a test", tags=["alerts"]
)
async def test(state: State) -> Response[dict[str, Any]]:
    """The deliveries, to be looked up in `alert_deliveries`."""
    alerts: Alerts = state.alerts
    sent = await state.read(alerts.test)
    body = {"deliveries": [{"deliveryId": one.delivery_id, "receiver": one.receiver} for one in sent]}
    return Response(body, status_code=202)
