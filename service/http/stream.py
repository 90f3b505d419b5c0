"""A turn's log as a server-sent-event response."""

from __future__ import annotations

from collections.abc import AsyncIterator

from litestar.response import Stream

from lastword import CONTRACT
from lastword.wire import HEARTBEAT, MEDIA_TYPE
from service.log import Cursor
from service.run.turn import Turn
from service.service import TurnService


def event_stream(
    service: TurnService, turn: Turn, cursor: Cursor, first: bytes, *, resumed_from: int, replayed: bool = False
) -> Stream:
    """The response that follows a log from a cursor; `first` is what was read from it already."""
    return Stream(
        _follow(service, turn, cursor, first, resumed_from),
        status_code=200,
        media_type=MEDIA_TYPE,
        headers=stream_headers(turn.turn_id, replayed=replayed),
    )


def stored_stream(turn_id: str, frames: bytes, *, replayed: bool = False) -> Stream:
    """The response that replays a stored log, whole or in part."""

    async def once() -> AsyncIterator[bytes]:
        yield frames

    return Stream(once(), status_code=200, media_type=MEDIA_TYPE, headers=stream_headers(turn_id, replayed=replayed))


def mirror_stream(service: TurnService, turn_id: str, cursor: Cursor, *, replayed: bool = False) -> Stream:
    """The response that follows the log of a turn that another instance runs."""

    async def follow() -> AsyncIterator[bytes]:
        try:
            while (data := await cursor.next(service.deps.settings.heartbeat_ms / 1000)) is not None:
                yield data or HEARTBEAT
        finally:
            cursor.close()

    return Stream(follow(), status_code=200, media_type=MEDIA_TYPE, headers=stream_headers(turn_id, replayed=replayed))


def stream_headers(turn_id: str, *, replayed: bool) -> dict[str, str]:
    """Headers that keep every proxy from buffering, caching or packing the stream."""
    headers = {
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
        "Turn-Id": turn_id,
        "Turn-Contract": CONTRACT,
    }
    return headers | ({"Idempotency-Replayed": "true"} if replayed else {})


async def _follow(service: TurnService, turn: Turn, cursor: Cursor, first: bytes, resumed_from: int) -> AsyncIterator[bytes]:
    joined_ns = turn.now_ns()
    heartbeat_s = service.deps.settings.heartbeat_ms / 1000
    try:
        if first:
            yield first
        while (data := await cursor.next(heartbeat_s)) is not None:
            yield data or HEARTBEAT
    finally:
        service.viewer_left(turn, cursor, joined_ns=joined_ns, resumed_from=resumed_from)
