"""`python -m benchmarks.store`: makes a large store once, starts a collector on it, and prints how it answers and loads, with the goals, on standard output.

Exit codes: 0 measured, whatever came of the goals; 1 something could not be measured; 2 the arguments.
"""

from __future__ import annotations

import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import httpx2

from benchmarks.collector.measure import load_rate
from benchmarks.collector.stores import Ours
from benchmarks.collector.traffic import requests
from benchmarks.service.programs import CACHE
from benchmarks.store.fill import Tell, fill
from dashboard import queries, state

WINDOW = "24h"
ROUNDS = 5
RANKED_SLICES = 10
GOAL_QUERY_MS = 100
GOAL_TURN_MS = 50
LOAD_ROUNDS = 3
BY_ID = ("turn_when", "turn", "turn_spans", "turn_record")
"""The queries of the Turn page: a turn with everything that belongs to it."""
WITH_SPANS = BY_ID[:3]
"""A turn with its spans by its id: when it was, its row, its spans."""
SHOWN = ("show_turn", "show_spans")
"""Queries that a page shows for people to run, and does not ask."""


class Store:
    """A collector on a folder that is there."""

    def __init__(self, folder: Path) -> None:
        self.lane = Ours(folder)
        self._http = httpx2.Client(
            timeout=60, trust_env=False
        )  # one, as the dashboard has: to make one takes longer than most queries

    def rows(self, sql: str, params: dict[str, Any], reach: queries.Reach = queries.EVER) -> tuple[list[list[Any]], float]:
        """Rows of a query, and the milliseconds from asking to having them."""
        body = {"sql": sql, "params": params, "timeoutMs": 30_000, "maxRows": 100_000, **reach._asdict()}
        start = time.perf_counter()
        answer = self._http.post(f"{self.lane.url}/v1/sql", json=body)
        took_ms = (time.perf_counter() - start) * 1000
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code}: {answer.text[:500]}")
        return answer.json()["rows"], took_ms

    def median_ms(self, sql: str, params: dict[str, Any]) -> float:
        """The median over some rounds, the first left out: what is read for the first time is not what a person waits for again."""
        reach = queries.reach(params)
        return statistics.median([self.rows(sql, params, reach)[1] for _ in range(ROUNDS + 1)][1:])


def _parameters(end: datetime, turn: list[Any]) -> dict[str, Any]:
    view = state.preset_view(WINDOW, end, refresh_s=10)
    start = view.start
    values: dict[str, Any] = {
        **view.params(),
        "since": (end - timedelta(days=7)).replace(minute=0, second=0, microsecond=0).isoformat(),
        "limit": 50,
        "offset": 0,
        "pick": "newest",
        "turn_id": turn[0],
        "needle": turn[0],
        "conversation_id": turn[1],
        "started_at": turn[2],
        "ended_at": turn[3],
        "stage": "model_wait_ms",
        "low_ms": 1000,
        "high_ms": 100_000,
        "box_start": start.isoformat(),
        "box_end": (start + timedelta(hours=1)).isoformat(),
        "alert_id": "none",
    }
    return values


def _asked(store: Store, tell: Tell) -> list[tuple[str, float]]:
    """Every named query of the dashboard over 24 hours, slowest first."""
    ((newest, *_),), _ = store.rows("select max(ended_at) from turns", {})
    end = datetime.fromisoformat(newest) + timedelta(seconds=1)
    (turn,), _ = store.rows(
        "select turn_id, conversation_id, started_at, ended_at from turns where ended_at >= $at::timestamptz order by ended_at limit 1",
        {"at": (end - timedelta(hours=6)).isoformat()},
    )
    values = _parameters(end, turn)
    found = []
    for name in [name for name in queries.names() if name not in SHOWN]:
        asked = queries.chosen(name, values)
        wanted = {key: values.get(key) for key in queries.parameters(asked)}
        sql = queries.ranking(asked, RANKED_SLICES) if name in queries.RANKED else queries.load(asked)
        found.append((name, store.median_ms(sql, wanted)))
        tell(f"{name}: {found[-1][1]:.0f} ms")
    return sorted(found, key=lambda pair: -pair[1])


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--turns", type=click.IntRange(20_000, 50_000_000), default=10_000_000, show_default=True, help="Turns of the store."
)
@click.option("--days", type=click.FloatRange(1, 3650), default=30.0, show_default=True, help="Days that they lie over.")
@click.option(
    "--span-days", type=click.FloatRange(0, 3650), default=3.0, show_default=True, help="Days whose turns have their spans."
)
@click.option("--anew", is_flag=True, help="Make the store anew, though one of this size is there.")
def main(turns: int, days: float, span_days: float, *, anew: bool) -> None:
    """Measure how a large store answers the dashboard's queries, finds a turn by its id, and loads, beside an empty one.

    The store is made once and kept under .cache/, which takes long and some gigabytes: 20,000 turns are loaded as their senders would send them, then copied by the engine with other
    ids and times.
    """
    begun = time.monotonic()

    def tell(text: str) -> None:
        click.echo(f"{time.monotonic() - begun:5.0f} s  {text}", err=True)

    folder = CACHE / f"store-{turns}-{days:g}-{span_days:g}"
    if anew or not folder.exists():
        fill(folder, turns, days, span_days, tell)
    try:
        lines = _measure(folder, tell)
    except (RuntimeError, OSError, httpx2.HTTPError) as error:
        click.echo(f"it could not be measured: {error or type(error).__name__}", err=True)
        sys.exit(1)
    click.echo(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {turns:,} turns over {days:g} days, spans of {span_days:g} days\n"
    )
    click.echo("\n".join(lines))


def _measure(folder: Path, tell: Tell) -> list[str]:
    store = Store(folder)
    start = time.monotonic()
    store.lane.start()
    ready_s = time.monotonic() - start
    try:
        tell("asking")
        asked = _asked(store, tell)
    finally:
        store.lane.stop()
    tell("loading")
    full, empty = _loads(folder)
    by_name = dict(asked)
    slow = [name for name, took_ms in asked if took_ms >= GOAL_QUERY_MS and name not in BY_ID]
    lines = ["| query | ms |", "|---|---|", *(f"| `{name}` | {took_ms:.0f} |" for name, took_ms in asked), ""]
    lines += [f"The collector was ready {ready_s:.1f} s after its start.", "", "| goal | measured | |", "|---|---|---|"]
    goals = (
        (
            f"every query of the dashboard over 24 h under {GOAL_QUERY_MS} ms",
            f"{len(asked) - len(slow)} of {len(asked)}",
            not slow,
        ),
        (
            f"a turn with its spans by id under {GOAL_TURN_MS} ms",
            f"{sum(by_name[name] for name in WITH_SPANS):.0f} ms",
            sum(by_name[name] for name in WITH_SPANS) < GOAL_TURN_MS,
        ),
        ("loading within 10% of an empty store", f"{full:,.0f} against {empty:,.0f} spans/s", full >= 0.9 * empty),
    )
    lines += [f"| {text} | {measured} | {'met' if met else 'not met'} |" for text, measured, met in goals]
    return lines


def _loads(folder: Path) -> tuple[float, float]:
    """Spans a second into the large store and into an empty one, in turns: the medians."""
    rates: dict[str, list[float]] = {"full": [], "empty": []}
    begun = int(time.time())  # what the store has from a run before would be sent again, and not be stored
    with tempfile.TemporaryDirectory(prefix="lastword-bench-") as other:
        for number in range(LOAD_ROUNDS):
            for name, place in (("full", folder), ("empty", Path(other) / str(number))):
                rates[name].append(load_rate(Ours(place), requests(50_000, seed=begun + number)))
    return statistics.median(rates["full"]), statistics.median(rates["empty"])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))  # so that what was started is ended
    main(prog_name="python -m benchmarks.store")
