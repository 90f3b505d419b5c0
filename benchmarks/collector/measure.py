"""One lane's measurement: all spans as fast as it takes them, until it shows them all; what that cost; how soon one more is shown; and what a kill leaves of what it acknowledged."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import httpx2
from msgspec import Struct

from benchmarks.collector.stores import Body, Lane
from benchmarks.collector.traffic import Request, requests

SENDERS = 4
"""Requests at a time."""
SEND_S = 120.0
"""A lane that takes longer is measured by what it took until then."""
SHOWN_S = 60.0
POLL_S = 0.05
Tell = Callable[[str], None]


class Figures(Struct, kw_only=True):
    """What was measured of a lane. What could not be is none."""

    lane: str
    version: str
    acknowledged_per_s: float
    queryable_per_s: float | None = None
    cpu_s: float
    peak_mib: float
    disk_bytes: float | None = None
    shown_after_s: float | None = None
    killed_acknowledged: int | None = None
    killed_lost: int | None = None


class Sent(Struct):
    """What a lane answered 200 to, and when the last answer came."""

    spans: int = 0
    refused: int = 0
    seconds: float = 0.0


async def send(lane: Lane, bodies: Sequence[Request], sent: Sent, limit_s: float) -> None:
    """Sends requests, some at a time, for at most so long."""
    start = time.monotonic()
    queue = iter(bodies)
    headers = {"content-type": "application/x-protobuf", **lane.headers}

    async def work(http: httpx2.AsyncClient) -> None:
        for request in queue:
            if time.monotonic() - start > limit_s:
                return
            try:
                response = await http.post(lane.path, content=request.body)
            except httpx2.HTTPError:  # killed, or given up
                return
            if response.is_success:
                sent.spans += request.spans
                sent.seconds = time.monotonic() - start
            else:
                sent.refused += 1
                await asyncio.sleep(0.2)

    async with httpx2.AsyncClient(base_url=lane.url, headers=headers, timeout=60, trust_env=False) as http:
        await asyncio.gather(*(work(http) for _ in range(SENDERS)))


def _wait_for(lane: Lane, count: int, limit_s: float) -> tuple[int, float]:
    """How many are shown, and how long it took until that was so: at most `count`, at most so long."""
    start = time.monotonic()
    shown, since = lane.count(), 0.0
    while shown < count and time.monotonic() - start < limit_s:
        time.sleep(POLL_S)
        now = lane.count()
        if now != shown:
            shown, since = now, time.monotonic() - start
    return shown, since


def measure(kind: type[Lane], folder: Path, bodies: Sequence[Request], tell: Tell) -> Figures:
    """All figures of a lane."""
    tell(f"{kind.name}: starting")
    lane = kind(folder / kind.name.replace(" ", "-"))
    lane.start()
    try:
        figures = _run(lane, bodies, tell)
    finally:
        lane.stop()
    if kind is not Body:
        tell(f"{kind.name}: killing it in full flow")
        _kill(kind(folder / f"{kind.name.replace(' ', '-')}-killed"), bodies, figures)
    return figures


def _run(lane: Lane, bodies: Sequence[Request], tell: Tell) -> Figures:
    warm = requests(500, seed=99)
    asyncio.run(send(lane, warm, Sent(), 60))  # what is imported at the first request is not measured
    reads = not isinstance(lane, Body)
    before = _wait_for(lane, sum(one.spans for one in warm), 20)[0] if reads else 0
    cpu = lane.cpu_s()
    sent = Sent()
    tell(f"{lane.name}: sending")
    start = time.monotonic()
    asyncio.run(send(lane, bodies, sent, SEND_S))
    shown = 0
    if reads:
        shown, _ = _wait_for(lane, before + sent.spans, SHOWN_S)
    took = time.monotonic() - start
    scale = 100_000 / max(1, sent.spans)
    figures = Figures(
        lane=lane.name,
        version=lane.version,
        acknowledged_per_s=sent.spans / sent.seconds if sent.seconds else 0.0,
        queryable_per_s=(shown - before) / took if reads else None,
        cpu_s=(lane.cpu_s() - cpu) * scale,
        peak_mib=lane.peak_bytes() / 2**20,
    )
    if reads and sent.spans:
        tell(f"{lane.name}: one more")
        one = requests(1, seed=98)
        asyncio.run(send(lane, one, Sent(), 60))
        answered = time.monotonic()
        now, _ = _wait_for(lane, shown + 1, 30)
        figures.shown_after_s = time.monotonic() - answered if now > shown else None
        lane.compact()
        figures.disk_bytes = lane.disk_bytes() / max(1, now)
    return figures


def _kill(lane: Lane, bodies: Sequence[Request], figures: Figures) -> None:
    """Kills the lane behind a third of the spans that it takes in the time, starts it again, and counts."""
    lane.start()
    sent = Sent()
    sending = threading.Thread(target=lambda: asyncio.run(send(lane, bodies, sent, 30.0)))
    try:
        sending.start()
        third = sum(one.spans for one in bodies) // 3
        until = time.monotonic() + 15
        while sending.is_alive() and sent.spans < third and time.monotonic() < until:
            time.sleep(0.005)
        lane.kill()
        sending.join(60)
        lane.start()
        shown, _ = _wait_for(lane, sent.spans, 10)
        figures.killed_acknowledged = sent.spans
        figures.killed_lost = max(0, sent.spans - shown)
    finally:
        lane.stop()


def load_rate(lane: Lane, bodies: Sequence[Request]) -> float:
    """Spans a second that a lane takes and answers, from its start to its end."""
    lane.start()
    try:
        asyncio.run(send(lane, requests(500, seed=97), Sent(), 60))
        sent = Sent()
        asyncio.run(send(lane, bodies, sent, SEND_S))
    finally:
        lane.stop()
    return sent.spans / sent.seconds if sent.seconds else 0.0
