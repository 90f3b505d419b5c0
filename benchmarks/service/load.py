"""The client of the benchmark: many turns at a time over raw connections, looked at when they are over, so that the look costs the server nothing."""

from __future__ import annotations

import asyncio
import json
import math
import re
import socket
import statistics
import time
from collections.abc import Iterable, Sequence
from typing import cast

from msgspec import Struct

from benchmarks.service.script import STAMP

_TURN_ID = re.compile(rb"^turn-id: (\S+)\r$", re.IGNORECASE | re.MULTILINE)
LIMIT_S = 120.0
"""The longest that one turn may take."""


class Wanted(Struct, frozen=True, kw_only=True):
    """A request, and how its answer is read: what marks a chunk, and what marks the end of a whole answer."""

    port: int
    question: str
    path: str = "/v1/turns"
    body: dict[str, object] | None = None
    chunk: bytes = b"event: chunk"
    end: bytes = b"event: done"

    @property
    def request(self) -> bytes:
        """The request on the wire."""
        body = json.dumps(self.body or {"message": self.question}).encode()
        head = f"POST {self.path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return f"{head}Accept: text/event-stream\r\nConnection: close\r\n\r\n".encode() + body


class Seen(Struct, frozen=True, kw_only=True):
    """One turn as its client saw it. Times in seconds; `delays_s` is from the making of a piece of text to its arrival."""

    turn_id: str
    sent_at: float
    ended_at: float
    ack_s: float
    first_s: float
    chunks: int
    complete: bool
    delays_s: list[float]


class _Reader(asyncio.Protocol):
    """Keeps what came with the time at which it came."""

    def __init__(self, wanted: Wanted, done: asyncio.Future[None]) -> None:
        self._wanted = wanted
        self._done = done
        self.pieces: list[tuple[int, bytes]] = []
        self.sent_ns = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.sent_ns = time.monotonic_ns()
        cast("asyncio.Transport", transport).write(self._wanted.request)  # that of a TCP connection

    def data_received(self, data: bytes) -> None:
        self.pieces.append((time.monotonic_ns(), data))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_result(None)


async def turn(wanted: Wanted) -> Seen:
    """Asks and reads to the end of the connection.

    Raises:
        TimeoutError: it does not end.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    transport, reader = await loop.create_connection(lambda: _Reader(wanted, done), "127.0.0.1", wanted.port)
    try:
        await asyncio.wait_for(done, LIMIT_S)
    finally:
        transport.abort()
    return _seen(wanted, reader, time.monotonic())


def _seen(wanted: Wanted, reader: _Reader, ended_at: float) -> Seen:
    """Reads what came. A mark may be cut in two by the network: it counts where its last byte came. Behind the end no piece counts, for there stands the answer."""
    seen, first_ns, marked, end = b"", 0, 0, -1
    delays: list[float] = []
    for at_ns, data in reader.pieces:
        known = max(0, len(seen) - 64)
        seen += data
        if not first_ns and wanted.chunk in seen[known:]:
            first_ns = at_ns
        if end < 0:
            end = seen.find(wanted.end, known)
            for stamp in STAMP.finditer(seen, marked, end if end >= 0 else len(seen)):
                delays.append((at_ns - int(stamp[1])) / 1e9)
                marked = stamp.end()
    named = _TURN_ID.search(seen)
    return Seen(
        turn_id=named[1].decode() if named else "",
        sent_at=reader.sent_ns / 1e9,
        ended_at=ended_at,
        ack_s=(reader.pieces[0][0] - reader.sent_ns) / 1e9 if reader.pieces else float("inf"),
        first_s=(first_ns - reader.sent_ns) / 1e9 if first_ns else float("inf"),
        chunks=len(delays),
        complete=seen.startswith(b"HTTP/1.1 200") and end >= 0,
        delays_s=delays,
    )


async def together(wanted: Wanted, turns: int, *, over_s: float = 0.0) -> list[Seen]:
    """So many turns, begun evenly over a time."""

    async def later(number: int) -> Seen:
        await asyncio.sleep(over_s * number / turns)
        return await turn(wanted)

    return await asyncio.gather(*(later(number) for number in range(turns)))


def per_second(seen: Sequence[Seen]) -> float:
    """Chunks a second over all turns, from the first request to the last end."""
    begun, ended = min(one.sent_at for one in seen), max(one.ended_at for one in seen)
    return sum(one.chunks for one in seen) / (ended - begun)


def quantile(values: Iterable[float], share: float) -> float:
    """The smallest value that was seen and that so large a share does not exceed (nearest rank): of a hundred, the 99th percentile is the second highest."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def median(values: Iterable[float]) -> float:
    """The median."""
    return statistics.median(values)


class _Viewer(asyncio.Protocol):
    """Resumes in the middle of a turn, and keeps nothing of what it reads but the end."""

    def __init__(self, turn_id: str, *, reading: bool) -> None:
        self._turn_id = turn_id
        self._reading = reading
        self.transport: asyncio.Transport | None = None
        self.tail = b""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # that of a TCP connection
        if not self._reading:
            self.transport.pause_reading()
        self.transport.write(f"GET /v1/turns/{self._turn_id}/events?after=3 HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-65_536:]
        if self.complete and not self.ended.done():
            self.ended.set_result(None)

    @property
    def complete(self) -> bool:
        """Whether the terminal came."""
        return b"event: done" in self.tail


async def view(port: int, turn_ids: Sequence[str], viewers: int, *, reading: bool, stuck_s: float = 3.0) -> int:
    """So many connections that resume finished turns and stay open. Those that are not `reading` take nothing for a while; the number that missed the end."""
    loop = asyncio.get_running_loop()
    opened: list[_Viewer] = []
    try:
        for number in range(viewers):
            viewer = _Viewer(turn_ids[number % len(turn_ids)], reading=reading)
            opened.append(viewer)
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048 if not reading else 65_536)
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", port))
            await loop.create_connection(lambda viewer=viewer: viewer, sock=sock)
        if not reading:
            await asyncio.sleep(stuck_s)
            for viewer in opened:
                if viewer.transport is not None:
                    viewer.transport.resume_reading()
        await asyncio.wait([viewer.ended for viewer in opened], timeout=LIMIT_S)
        return sum(not viewer.complete for viewer in opened)
    finally:
        for viewer in opened:
            if viewer.transport is not None:
                viewer.transport.abort()
