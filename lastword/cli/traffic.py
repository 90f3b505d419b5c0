"""Traffic: a plan of questions at their times, and the runner that asks them and counts what came back.

Owns what a load of turns is and how it is counted. Knows nothing of terminals or progress bars. Bounded in turns and in concurrency; every turn is read to its terminal and checked
against the grammar.
"""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO

from msgspec import Struct, field

from lastword.cli.questions import FOLLOW_UPS, QUESTIONS
from lastword.client import AsyncTurnClient
from lastword.errors import LastwordError, TurnRejected
from lastword.events import Done, Terminal
from lastword.urls import normalize_url

MAX_TURNS = 1_000_000
REJECTION_TRIES = 30
FOLLOW_UP_SHARE = 0.15
CUT = "cut_after_text"
FAULTS = {
    CUT: 5,
    "overloaded_before_text": 4,
    "overloaded_before_text:2": 2,
    "overloaded_before_text:always": 1,
    "empty_tool_result": 3,
    "tool_timeout": 1,
    "slow_first_token": 2,
    "truncated": 2,
    "refusal": 1,
    "stall": 1,
}
"""Faults and how often each is drawn against the others."""


class TrafficError(Exception):
    """A file cannot be used. The message says which, and why."""


class Planned(Struct, frozen=True, kw_only=True):
    """One question: when, in seconds from the start, and what is expected of it."""

    at_s: float
    question: str
    metadata: dict[str, str] = field(default_factory=dict)
    expected_url: str | None = None
    follow_up: bool = False


class Incident(Struct, frozen=True, kw_only=True):
    """A time in which the streams of some questions are cut: from `after_s` on, for `for_s` seconds, those that the pattern finds."""

    pattern: re.Pattern[str]
    after_s: float
    for_s: float

    def strikes(self, question: str, at_s: float) -> bool:
        """Whether a question at a time is one of them."""
        return self.after_s <= at_s < self.after_s + self.for_s and self.pattern.search(question) is not None


class Counts(Struct, kw_only=True):
    """What came back. Latencies in milliseconds, as the terminals say."""

    planned: int = 0
    asked: int = 0
    in_flight: int = 0
    terminals: int = 0
    partial: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    rejected_once: int = 0  # answers of 503 or 429, asked again
    broken: Counter[str] = field(default_factory=Counter)  # turns without a terminal that we could read, by error
    expected: int = 0
    found: int = 0
    first_token_ms: list[int] = field(default_factory=list)
    turn_ids: list[str] = field(default_factory=list)

    @property
    def done(self) -> int:
        """Questions that are over, one way or the other."""
        return self.terminals + sum(self.broken.values())

    def quantile_ms(self, q: float) -> int | None:
        """A quantile of the time to the first token."""
        values = sorted(self.first_token_ms)
        return values[min(len(values) - 1, int(q * len(values)))] if values else None

    def summary(self) -> dict[str, object]:
        """The counts as JSON."""
        return {
            "planned": self.planned,
            "asked": self.asked,
            "terminals": self.terminals,
            "byStatus": dict(self.by_status),
            "partial": self.partial,
            "broken": dict(self.broken),
            "rejectedOnce": self.rejected_once,
            "expectedSources": self.expected,
            "foundSources": self.found,
            "firstTokenMs": {"p50": self.quantile_ms(0.5), "p95": self.quantile_ms(0.95)},
            "turnIds": self.turn_ids,
        }


# --- plans


def steady_arrivals(rate: float, rng: random.Random) -> Iterator[float]:
    """Poisson arrivals whose rate swings by half around its mean, as a day does, only faster."""
    now = 0.0
    while True:
        swing = 1 + 0.5 * ((now % 120) / 60 - 1 if now % 240 < 120 else 1 - (now % 120) / 60)
        now += rng.expovariate(rate * max(0.1, swing))
        yield now


def read_arrivals(path: Path, speed: float) -> list[tuple[float, int]]:
    """Times in seconds from the first arrival, and generated tokens, from a CSV with TIMESTAMP, ContextTokens, GeneratedTokens.

    Raises:
        TrafficError: the file has other columns, or a row that cannot be read.
    """
    with _open(path) as file:
        rows = csv.DictReader(file)
        if not {"TIMESTAMP", "GeneratedTokens"} <= set(rows.fieldnames or ()):
            raise TrafficError(f"{path}: columns TIMESTAMP, ContextTokens, GeneratedTokens are expected")
        try:
            # Python reads six digits of a second; traces have seven.
            times = [(datetime.fromisoformat(row["TIMESTAMP"][:26]), int(row["GeneratedTokens"])) for row in rows]
        except (ValueError, TypeError) as error:
            raise TrafficError(f"{path}: {error}") from error
    if not times:
        raise TrafficError(f"{path}: no rows")
    times.sort()
    return [((time - times[0][0]).total_seconds() / speed, tokens) for time, tokens in times]


def read_questions(path: Path) -> list[tuple[str, str | None]]:
    """Questions and, where the file knows it, the URL that answers each, from JSON lines with `question` and `url`.

    Raises:
        TrafficError: the file cannot be read, or no line has a question.
    """
    questions: list[tuple[str, str | None]] = []
    try:
        with _open(path) as file:
            for line in file:
                row = json.loads(line) if line.strip() else {}
                if isinstance(row.get("question"), str):
                    questions.append((row["question"], row.get("url")))
    except (OSError, ValueError, AttributeError) as error:
        raise TrafficError(f"{path}: {error}") from error
    if not questions:
        raise TrafficError(f"{path}: no line has a `question`")
    return questions


def _open(path: Path) -> IO[str]:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def plan(
    turns: int,
    *,
    rng: random.Random,
    rate: float,
    faults: float,
    questions: list[tuple[str, str | None]] | None = None,
    arrivals: list[tuple[float, int]] | None = None,
    lengths: bool = True,
    incident: Incident | None = None,
) -> list[Planned]:
    """`turns` questions at their times. Fewer where the arrivals are fewer. An incident comes on top of the faults."""
    own = questions is None
    pool = questions or [(question, None) for question in QUESTIONS]
    chosen = rng.sample(pool, turns) if turns <= len(pool) else [rng.choice(pool) for _ in range(turns)]
    times = (
        arrivals if arrivals is not None else [(at, 0) for at, _ in zip(steady_arrivals(rate, rng), range(turns), strict=False)]
    )
    planned: list[Planned] = []
    for (at_s, tokens), (question, url) in zip(times, chosen, strict=False):
        metadata = {"answer_tokens": str(tokens)} if tokens and lengths else {}
        if rng.random() < faults:
            metadata["fault"] = rng.choices(list(FAULTS), weights=list(FAULTS.values()))[0]
        follow_up = own and rng.random() < FOLLOW_UP_SHARE
        if incident is not None and incident.strikes(question, at_s):
            metadata["fault"], follow_up = CUT, False
        planned.append(
            Planned(
                at_s=at_s,
                question=rng.choice(FOLLOW_UPS) if follow_up else question,
                metadata=metadata,
                expected_url=url,
                follow_up=follow_up,
            )
        )
    return planned


# --- the runner


class Traffic:
    """Asks the planned questions, each at its time, and counts."""

    def __init__(self, client: AsyncTurnClient, planned: list[Planned], *, concurrency: int) -> None:
        self._client = client
        self._planned = planned
        self._places = asyncio.Semaphore(concurrency)
        self._last_conversation: str | None = None
        self.counts = Counts(planned=len(planned))

    async def run(self, tick: Callable[[Counts], None]) -> Counts:
        """Runs the plan to its end; `tick` is called after every change."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        async with asyncio.TaskGroup() as group:
            for item in self._planned:
                await asyncio.sleep(max(0.0, item.at_s - (loop.time() - start)))
                await self._places.acquire()
                group.create_task(self._one(item, tick))
        return self.counts

    async def _one(self, item: Planned, tick: Callable[[Counts], None]) -> None:
        counts = self.counts
        counts.asked += 1
        counts.in_flight += 1
        try:
            self._take(item, await self._read(item))
        except LastwordError as error:
            counts.broken[type(error).__name__] += 1
        finally:
            counts.in_flight -= 1
            self._places.release()
            tick(counts)

    async def _read(self, item: Planned) -> Terminal:
        """The terminal of one question; asks again while the service is busy."""
        for attempt in range(REJECTION_TRIES):
            try:
                conversation = self._last_conversation if item.follow_up else None
                result = await self._client.ask(item.question, metadata=item.metadata, conversation_id=conversation)
            except TurnRejected as rejected:
                if rejected.status not in (429, 503) or attempt == REJECTION_TRIES - 1:
                    raise
                self.counts.rejected_once += 1
                await asyncio.sleep(rejected.retry_after_s or 1.0)
            else:
                return result.terminal
        raise AssertionError("unreachable: the last try raises or returns")

    def _take(self, item: Planned, terminal: Terminal) -> None:
        counts = self.counts
        counts.terminals += 1
        counts.turn_ids.append(terminal.turn_id)
        done = terminal.metadata if isinstance(terminal, Done) else None
        counts.by_status[done.completion_status.value if done else "error"] += 1
        first_token_ms = terminal.metadata.stage_timings.first_token_ms
        if first_token_ms is not None:
            counts.first_token_ms.append(first_token_ms)
        if done is not None:
            counts.partial += done.partial
            self._last_conversation = done.conversation_id
        if item.expected_url is not None:
            counts.expected += 1
            counts.found += done is not None and normalize_url(item.expected_url) in done.sources
