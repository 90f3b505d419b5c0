"""What people ask of the alerts over HTTP: a silence, its end, a test. Everything else about them is SQL."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import Response, delete, post
from litestar.datastructures import State
from litestar.exceptions import NotFoundException
from litestar.params import FromPath, JSONBody
from msgspec import Meta, Struct

from collector.alerts.alerts import Alerts

_MAX_MINUTES = 30 * 24 * 60


class SilenceRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Body of `POST /v1/alerts/silences`: what is left out stands for every value."""

    rule: str | None = None
    route: str | None = None
    model_tier: str | None = None
    minutes: Annotated[int, Meta(ge=1, le=_MAX_MINUTES)] = 60
    comment: Annotated[str, Meta(max_length=500)] = ""


@post("/v1/alerts/silences", status_code=201, summary="Tell nobody of some alerts for a while", tags=["alerts"])
async def silence(data: JSONBody[SilenceRequest], state: State) -> Response[dict[str, Any]]:
    """The silence."""
    alerts: Alerts = state.alerts
    made = await state.read(lambda: alerts.silence(**msgspec.structs.asdict(data)))
    return Response({"silenceId": made.silence_id, "endsNs": made.ends_ns}, status_code=201)


@delete("/v1/alerts/silences/{silence_id:str}", status_code=204, summary="End a silence", tags=["alerts"])
async def end_silence(silence_id: FromPath[str], state: State) -> None:
    """404 where none of that id holds."""
    alerts: Alerts = state.alerts
    if not await state.read(lambda: alerts.end_silence(silence_id)):
        raise NotFoundException(f"no silence {silence_id} holds now")


@post("/v1/alerts/test", status_code=202, summary="Send every receiver a test", tags=["alerts"])
async def test(state: State) -> Response[dict[str, Any]]:
    """The deliveries, to be looked up in `alert_deliveries`."""
    alerts: Alerts = state.alerts
    sent = await state.read(alerts.test)
    body = {"deliveries": [{"deliveryId": one.delivery_id, "receiver": one.receiver} for one in sent]}
    return Response(body, status_code=202)
