"""`python -m benchmarks.dashboard`: opens the dashboard on a large store in a real browser, and prints how quickly it redraws, with the goals, on standard output.

Exit codes: 0 measured, whatever came of the goals; 1 something could not be measured; 2 the arguments.
"""

from __future__ import annotations

import os
import platform
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

import click
import httpx2
from playwright.sync_api import Error as BrowserError
from playwright.sync_api import Page

from benchmarks.collector.stores import Lane, Ours
from benchmarks.dashboard.browser import opened, rest_ms
from benchmarks.service.programs import CACHE
from benchmarks.store.fill import fill

GOAL_OVERVIEW_MS = 1000
GOAL_TURN_MS = 500
WINDOWS = {"24 h": timedelta(hours=24), "7 d": timedelta(days=7)}
OVERVIEW = (
    ".lw-turns",
    ".lw-figure",
    ".lw-route",
    *(f".st-key-panel-{name} svg.marks" for name in ("rate", "stages", "sources", "tools")),
)
"""What is there when each panel of the Overview is."""
TURN = (
    ".lw-head",
    ".lw-timeline",
    ".st-key-panel-spans svg.marks",
    ".st-key-panel-record .lw-json",
    ".st-key-panel-sql code",
)
Tell = Callable[[str], None]


class Pages(Lane):
    """The dashboard with its defaults, but for its cache: what is measured twice is asked twice."""

    name = "dashboard"
    health = "/_stcore/health"
    headers: ClassVar[dict[str, str]] = {}

    def __init__(self, folder: Path, collector_url: str) -> None:
        super().__init__(folder)
        self.collector_url = collector_url

    def command(self) -> list[str]:
        """As a user starts it."""
        return [sys.executable, "-m", "dashboard"]

    def environment(self) -> dict[str, str]:
        """Where, and no answer that is older than a second."""
        return {
            "LASTWORD_DASHBOARD_PORT": str(self.port),
            "LASTWORD_DASHBOARD_COLLECTOR_URL": self.collector_url,
            "LASTWORD_DASHBOARD_CACHE_S": "1",
        }


@contextmanager
def running(store: Path) -> Iterator[tuple[Ours, Pages]]:
    """A collector on the store, and a dashboard that reads it."""
    collector = Ours(store)
    collector.start()
    try:
        pages = Pages(CACHE / "bench-dashboard", collector.url)
        pages.start()
        try:
            yield collector, pages
        finally:
            pages.stop()
    finally:
        collector.stop()


def rows(collector: Ours, sql: str, params: dict[str, Any] | None = None) -> list[list[Any]]:
    """Rows of a query."""
    answer = httpx2.post(
        f"{collector.url}/v1/sql", json={"sql": sql, "params": params or {}, "timeoutMs": 30_000}, timeout=60, trust_env=False
    )
    if answer.status_code != 200:
        raise RuntimeError(f"{answer.status_code}: {answer.text[:500]}")
    found: list[list[Any]] = answer.json()["rows"]
    return found


def _window(collector: Ours, length: timedelta) -> dict[str, str]:
    """The parameters of a window that ends where the store ends: it stands still, so no refresh is taken for a redraw."""
    ((newest,),) = rows(collector, "select max(ended_at) from turns")
    end = datetime.fromisoformat(newest) + timedelta(seconds=1)
    return {"window": "custom", "from": f"{end - length:%Y-%m-%dT%H:%M:%SZ}", "to": f"{end:%Y-%m-%dT%H:%M:%SZ}"}


def _choose(page: Page, name: str, value: str) -> None:
    page.locator(f".st-key-url-{name} input").click()
    page.get_by_role("option", name=value, exact=True).click()


def filter_changes(page: Page, pages: Pages, collector: Ours, window: dict[str, str], rounds: int) -> list[float]:
    """Milliseconds from a filter that is chosen until every panel of the Overview is redrawn. No answer comes from the cache."""
    sql = (
        "select route, model_tier from turns where route is not null and model_tier is not null "
        "and ended_at >= $start::timestamptz group by all order by count(*) desc limit 12"
    )
    changes = rows(collector, sql, {"start": window["from"]})
    page.goto(f"{pages.url}/?{urlencode(window)}")
    rest_ms(page, *OVERVIEW, acted=False)
    took = []
    for route, tier in changes[: -(-rounds // 2)]:
        for name, value in (("route", route), ("tier", tier)):
            _choose(page, name, value)
            took.append(rest_ms(page, *OVERVIEW, acted=True))
        page.goto(f"{pages.url}/?{urlencode(window)}")
        rest_ms(page, *OVERVIEW, acted=False)
    return took


def first_turns(page: Page, pages: Pages, window: dict[str, str], rounds: int) -> list[float]:
    """Milliseconds from a click on a turn in the Overview's list until all of its page is drawn: the first one since the tab was loaded."""
    took = []
    for number in range(rounds):
        page.goto("about:blank")
        page.goto(f"{pages.url}/?{urlencode(window)}")
        rest_ms(page, *OVERVIEW, acted=False)
        page.locator(".lw-turns tbody tr a").nth(number).click()
        took.append(rest_ms(page, *TURN, acted=True))
    return took


def turns_by_click(page: Page, pages: Pages, window: dict[str, str], rounds: int) -> list[float]:
    """Milliseconds from a click on a turn in a list until all of its page is drawn, for somebody who walks from turn to turn: what a browser loads once for all charts is there."""
    page.goto(f"{pages.url}/turns?{urlencode(window)}&pick=broken")
    rest_ms(page, ".lw-turns", acted=False)
    took = []
    for number in range(rounds + 1):
        page.locator(".lw-turns tbody tr a").nth(number).click()
        took.append(rest_ms(page, *TURN, acted=True))
        page.go_back()
        rest_ms(page, ".lw-turns", acted=False)
    return took[1:]


def turns_by_link(page: Page, pages: Pages, ids: list[str]) -> list[float]:
    """Milliseconds from a link in a new tab until all of the turn is drawn: everything that a browser has to fetch is part of it."""
    took = []
    for turn_id in ids:
        page.goto("about:blank")
        page.goto(f"{pages.url}/turn?id={turn_id}")
        took.append(rest_ms(page, *TURN, acted=False))
    return took


def cold_overviews(page: Page, pages: Pages, window: dict[str, str], rounds: int) -> list[float]:
    """Milliseconds from a link to the Overview until all of it is drawn."""
    took = []
    for _ in range(rounds):
        page.goto("about:blank")
        page.goto(f"{pages.url}/?{urlencode(window)}")
        took.append(rest_ms(page, *OVERVIEW, acted=False))
    return took


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--store",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A data folder that is there, instead of one made for this. A collector is started on it.",
)
@click.option(
    "--turns",
    type=click.IntRange(20_000, 50_000_000),
    default=10_000_000,
    show_default=True,
    help="Turns of the store that is made.",
)
@click.option("--days", type=click.FloatRange(1, 3650), default=30.0, show_default=True, help="Days that they lie over.")
@click.option(
    "--span-days", type=click.FloatRange(0.01, 3650), default=3.0, show_default=True, help="Days whose turns have their spans."
)
@click.option("--rounds", type=click.IntRange(2, 24), default=10, show_default=True, help="Measurements of each kind.")
def main(store: Path | None, turns: int, days: float, span_days: float, rounds: int) -> None:
    """Measure in a real browser how quickly the Overview is redrawn after a filter change and how quickly a turn opens, on a large store.

    The store is made once and kept under .cache/, the one that `make bench-store` uses too.
    """
    begun = time.monotonic()

    def tell(text: str) -> None:
        click.echo(f"{time.monotonic() - begun:5.0f} s  {text}", err=True)

    folder = store or CACHE / f"store-{turns}-{days:g}-{span_days:g}"
    try:
        if not folder.exists():
            fill(folder, turns, days, span_days, tell)
        lines = _measure(folder, rounds, tell)
    except (RuntimeError, OSError, httpx2.HTTPError, BrowserError) as error:
        click.echo(f"it could not be measured: {error or type(error).__name__}", err=True)
        sys.exit(1)
    click.echo("\n".join(lines))


def _measure(folder: Path, rounds: int, tell: Tell) -> list[str]:
    measured: list[tuple[str, list[float], int | None]] = []
    with running(folder) as (collector, pages), opened() as page:
        ((stored,),) = rows(collector, "select count(*) from turns")
        day = _window(collector, WINDOWS["24 h"])
        ids = [
            turn_id
            for (turn_id,) in rows(
                collector,
                f"select turn_id from turns where ended_at >= $since::timestamptz and broken and first_token_ms is not null and trace_id is not null order by ended_at desc limit {rounds + 30} offset 30",
                {"since": day["from"]},
            )
        ]
        tell("warming up")
        page.goto(f"{pages.url}/?{urlencode(day)}")
        rest_ms(page, *OVERVIEW, acted=False)
        turns_by_link(page, pages, ids[-1:])
        for said, length in WINDOWS.items():
            took = filter_changes(page, pages, collector, _window(collector, length), rounds)
            measured.append(
                (f"Overview of {said}, redrawn after a filter change", took, GOAL_OVERVIEW_MS if said == "24 h" else None)
            )
            tell(f"{measured[-1][0]}: {statistics.median(took):.0f} ms")
        measured.append(("Overview of 24 h, opened by a link", cold_overviews(page, pages, day, rounds), None))
        measured.append(("Turn, the first since the tab was loaded", first_turns(page, pages, day, rounds), GOAL_TURN_MS))
        measured.append(("Turn, each further one opened from a list", turns_by_click(page, pages, day, rounds), GOAL_TURN_MS))
        measured.append(("Turn, opened by a link in a new tab", turns_by_link(page, pages, ids[:rounds]), None))
    lines = [
        f"Python {platform.python_version()}, {os.cpu_count()} cores, Chromium at 1440 by 1000 pixels, {stored:,} turns, {rounds} measurements each",
        "",
    ]
    lines += ["| from the event until all is drawn | median ms | worst ms |", "|---|---|---|"]
    lines += [f"| {what} | {statistics.median(took):.0f} | {max(took):.0f} |" for what, took, _ in measured]
    lines += ["", "| goal | measured | |", "|---|---|---|"]
    for what, took, goal in measured:
        if goal is not None:
            median = statistics.median(took)
            lines.append(f"| {what}: under {goal} ms | {median:.0f} ms | {'met' if median < goal else 'not met'} |")
    return lines


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))  # so that what was started is ended
    main(prog_name="python -m benchmarks.dashboard")
