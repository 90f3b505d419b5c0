"""A turn's log as a server-sent-event response, written to the connection by ourselves.

Owns what a connection may cost: every piece is sent within the send timeout or the viewer is dropped, nothing is read ahead of it, and that the client has
gone is noticed at once, also while the log is silent. Knows no worker. Invariants: a viewer that is dropped never sees a terminal; who reads the log is
told exactly once that its viewer has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from litestar.response import Response
from litestar.response.base import ASGIResponse
from litestar.types import Receive, Scope, Send

from lastword import CONTRACT
from lastword.wire import HEARTBEAT, MEDIA_TYPE
from service.cursor import Cursor, Outlet
from service.http.outlet import outlet_of, transport_of
from service.log import MAX_READ_BYTES
from service.run.turn import Turn
from service.service import TurnService

_LOOKS = 4
"""How often within the send timeout a send in progress is looked after."""


class Frames(Protocol):
    """Where a response's bytes come from."""

    async def next(self) -> bytes | None:
        """The next bytes; None behind the last."""
        ...

    def use(self, open_outlet: Callable[[], Outlet | None]) -> None:
        """From now on bytes may be sent past the event loop."""
        ...

    def close(self) -> None:
        """The connection has ended."""
        ...


class LogFrames:
    """What a cursor reads from a log, and a heartbeat where it is silent. `first` was read from it already; `on_close` is called once."""

    def __init__(self, cursor: Cursor, *, heartbeat_ms: int, on_close: Callable[[], None], first: bytes = b"") -> None:
        self._cursor = cursor
        self._heartbeat_s = heartbeat_ms / 1000
        self._on_close: Callable[[], None] | None = on_close
        self._first = first

    async def next(self) -> bytes | None:
        """The next frames, joined."""
        if self._first:
            first, self._first = self._first, b""
            return first
        data = await self._cursor.next(self._heartbeat_s)
        return HEARTBEAT if data == b"" else data

    def use(self, open_outlet: Callable[[], Outlet | None]) -> None:
        """A worker may send what comes."""
        self._cursor.use(open_outlet)

    def close(self) -> None:
        """The viewer has left."""
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()


class StoredFrames:
    """A log, or the rest of one, as it was stored."""

    def __init__(self, frames: bytes) -> None:
        self._frames: bytes | None = frames

    async def next(self) -> bytes | None:
        """All of it, once."""
        frames, self._frames = self._frames, None
        return frames

    def use(self, open_outlet: Callable[[], Outlet | None]) -> None:
        """Nothing more will come."""

    def close(self) -> None:
        """Nothing is held."""


def event_stream(
    service: TurnService, turn: Turn, cursor: Cursor, first: bytes, *, resumed_from: int, replayed: bool = False
) -> EventStream:
    """The response that follows a turn of this process from a cursor; `first` is what was read from it already."""
    joined_ns = turn.now_ns()

    def left() -> None:
        service.viewer_left(turn, cursor, joined_ns=joined_ns, resumed_from=resumed_from)

    frames = LogFrames(cursor, heartbeat_ms=service.deps.settings.heartbeat_ms, on_close=left, first=first)
    return EventStream(service, frames, turn.turn_id, replayed=replayed)


def mirror_stream(service: TurnService, turn_id: str, cursor: Cursor, first: bytes, *, replayed: bool = False) -> EventStream:
    """The response that follows the log of a turn that another instance runs; `first` is what was read from it already."""
    frames = LogFrames(cursor, heartbeat_ms=service.deps.settings.heartbeat_ms, on_close=cursor.close, first=first)
    return EventStream(service, frames, turn_id, replayed=replayed)


def stored_stream(service: TurnService, turn_id: str, frames: bytes, *, replayed: bool = False) -> EventStream:
    """The response that replays a stored log, whole or in part."""
    return EventStream(service, StoredFrames(frames), turn_id, replayed=replayed)


class EventStream(Response[None]):
    """The response over some frames. Who sends them in another way takes `frames`, and closes them when the client has gone."""

    def __init__(self, service: TurnService, frames: Frames, turn_id: str, *, replayed: bool) -> None:
        super().__init__(None, status_code=200, media_type=MEDIA_TYPE, headers=stream_headers(turn_id, replayed=replayed))
        self.frames = frames
        self._service = service

    def to_asgi_response(self, app: Any, request: Any, **kwargs: Any) -> ASGIResponse:
        """What the framework calls to send it."""
        headers = {**(kwargs.get("headers") or {}), **self.headers}
        return _Delivery(self._service, self.frames, headers)


class _Delivery(ASGIResponse):
    """Sends frames over one connection."""

    _should_set_content_length = False

    def __init__(self, service: TurnService, frames: Frames, headers: dict[str, str]) -> None:
        super().__init__(headers=headers, media_type=MEDIA_TYPE, status_code=200)
        self._service = service
        self._frames = frames

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the head and every frame, until the log ends, the client goes, or it takes nothing for too long."""
        service, frames = self._service, self._frames
        line = _Line(send, transport_of(scope), service.deps.settings.send_timeout_ms / 1000)
        leaving = asyncio.create_task(_noticed(receive, line))
        service.streams += 1
        try:
            await self.start_response(send)
            frames.use(lambda: outlet_of(scope))
            while not line.dropped and (data := await frames.next()) is not None:
                await line.send(data)
            if not line.dropped:
                await line.finish()
        except asyncio.CancelledError:
            if not line.ended:  # then it is the server that wants us to stop
                raise
        finally:
            service.streams -= 1
            line.close()
            leaving.cancel()
            frames.close()
            if line.dropped:
                service.metrics.viewer_dropped()


async def _noticed(receive: Receive, line: _Line) -> None:
    """Waits for the end of the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass
    line.end()


class _Line:
    """The way out of a response. Ends its task where the client has gone, or takes nothing for longer than the timeout."""

    def __init__(self, send: Send, transport: asyncio.Transport | None, timeout_s: float) -> None:
        self._send = send
        self._transport = transport
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._since: float | None = None  # when something was taken last of what is being sent; None where nothing is
        self._waiting = 0  # bytes that had not been taken then
        self._timer: asyncio.TimerHandle | None = None
        self.ended = False
        self.dropped = False

    async def send(self, data: bytes) -> None:
        """Sends a piece, no more at a time than may wait for one viewer in this process."""
        if len(data) <= MAX_READ_BYTES:
            await self._put(data, more=True)
            return
        for at in range(0, len(data), MAX_READ_BYTES):
            await self._put(data[at : at + MAX_READ_BYTES], more=True)

    async def finish(self) -> None:
        """Ends the response."""
        await self._put(b"", more=False)

    async def _put(self, data: bytes, *, more: bool) -> None:
        self._since = self._loop.time()
        if self._transport is not None:
            self._waiting = self._transport.get_write_buffer_size()
        if self._timer is None:
            self._timer = self._loop.call_at(self._since + self._timeout_s / _LOOKS, self._look)
        await self._send({"type": "http.response.body", "body": data, "more_body": more})
        self._since = None

    def _look(self) -> None:
        """Looks after what is being sent. One timer that rings now and then: one for each piece would cost more than the piece."""
        now, self._timer = self._loop.time(), None
        if self._since is None:
            return
        waiting = self._transport.get_write_buffer_size() if self._transport is not None else 0
        if waiting < self._waiting:
            self._waiting, self._since = waiting, now  # slow, but it reads
        if now - self._since < self._timeout_s:
            self._timer = self._loop.call_at(now + self._timeout_s / _LOOKS, self._look)
            return
        self.dropped = True
        if self._transport is not None:
            self._transport.abort()  # a close would wait for the buffer for ever; the end is then noticed like any other
        else:
            self.end()

    def end(self) -> None:
        """The connection is of no use any more."""
        if not self.ended and self._task is not None:
            self.ended = True
            self._task.cancel()

    def close(self) -> None:
        """Nothing is sent any more."""
        if self.ended and self._task is not None:
            self._task.uncancel()
        self._task = None
        if self._timer is not None:
            self._timer.cancel()


def stream_headers(turn_id: str, *, replayed: bool) -> dict[str, str]:
    """Headers that keep every proxy from buffering, caching or packing the stream."""
    headers = {
        "Cache-Control": "no-cache, no-transform",
        "X-Accel-Buffering": "no",
        "Turn-Id": turn_id,
        "Turn-Contract": CONTRACT,
    }
    return headers | ({"Idempotency-Replayed": "true"} if replayed else {})
