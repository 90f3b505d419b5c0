"""Loads synthetic turns the way that senders' turns are loaded: as OTLP requests, decoded, committed and published. Into a running collector over HTTP, else into the store itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from itertools import islice

import httpx2
from google.protobuf.message import Message
from msgspec import Struct

from collector.app import receiver_of
from collector.db.opening import Unusable, Whole, address
from collector.metrics import Metrics
from collector.receive.encodings import PROTOBUF
from collector.receive.receiver import Refusal, Refused
from collector.settings import CollectorSettings
from collector.synthetic.requests import record_request, span_request
from collector.synthetic.turns import synthesize
from collector.synthetic.world import SyntheticTurn

BATCH_TURNS = 250
AT_A_TIME = 2
TRIES = 60
PAUSE_S = 1.0
"""How long a busy collector is left alone: what its Retry-After asks for."""
Send = Callable[[str, Message], Awaitable[None]]
Progress = Callable[[int], None]
"""Called with the number of turns that are stored."""


class Wanted(Struct, frozen=True, kw_only=True):
    """Which turns: how many, over how many days before `end`, drawn with which seed."""

    turns: int
    days: float
    seed: int
    end: datetime


class Generated(Struct):
    """What was loaded."""

    turns: int = 0
    spans: int = 0


def _batches(wanted: Wanted) -> Iterator[list[SyntheticTurn]]:
    turns = synthesize(wanted.turns, seed=wanted.seed, end=wanted.end, hours=wanted.days * 24)
    while batch := list(islice(turns, BATCH_TURNS)):
        yield batch


async def _load(wanted: Wanted, send: Send, progress: Progress) -> Generated:
    """Sends all turns, a few requests at a time."""
    done = Generated()
    batches = _batches(wanted)

    async def work() -> None:
        for batch in batches:
            spans = span_request(batch)
            await asyncio.gather(send("logs", record_request(batch)), send("traces", spans))
            done.turns += len(batch)
            done.spans += sum(len(scope.spans) for resource in spans.resource_spans for scope in resource.scope_spans)
            progress(len(batch))

    await asyncio.gather(*(work() for _ in range(AT_A_TIME)))
    return done


def into_store(held: Whole, settings: CollectorSettings, wanted: Wanted, progress: Progress) -> Generated:
    """Loads turns into a store that this process holds.

    Raises:
        Unusable: they could not be stored.
    """
    receiver = receiver_of(settings, held.writer, Metrics(), stored=lambda _spans: None)

    async def send(signal: str, request: Message) -> None:
        body = request.SerializeToString()
        for left in reversed(range(TRIES)):
            try:
                await receiver.take(signal, PROTOBUF, body)
            except Refused as refused:
                if refused.refusal is not Refusal.BUSY or not left:
                    raise Unusable(f"the turns could not be stored: {refused}") from refused
                await asyncio.sleep(PAUSE_S)
            else:
                return

    try:
        loaded = asyncio.run(_load(wanted, send, progress))
        held.publish()
    finally:
        receiver.close()
    return loaded


def into_collector(settings: CollectorSettings, wanted: Wanted, progress: Progress) -> Generated:
    """Sends turns to the running collector.

    Raises:
        Unusable: it does not take them.
    """
    url = address(settings)
    headers = {"content-type": PROTOBUF}
    if settings.tokens.strip():
        headers["authorization"] = f"Bearer {settings.tokens.split(',')[0].strip()}"

    async def run() -> Generated:
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=120, trust_env=False) as http:

            async def send(signal: str, request: Message) -> None:
                body = request.SerializeToString()
                for left in reversed(range(TRIES)):
                    response = await http.post(f"/v1/{signal}", content=body)
                    if response.status_code != 503 or not left:
                        break
                    await asyncio.sleep(PAUSE_S)
                if not response.is_success:
                    raise Unusable(f"the collector at {url} answers {response.status_code}")

            return await _load(wanted, send, progress)

    try:
        return asyncio.run(run())
    except httpx2.HTTPError as error:
        raise Unusable(f"the collector at {url} does not answer: {error}") from error


def now() -> datetime:
    """The time at which the newest turn ends."""
    return datetime.now(UTC)
