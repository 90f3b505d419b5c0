"""How much eight people's queries slow the taking of spans: the collector alone, and beside them, in turns.

`python -m benchmarks.collector.crowd`. Exit codes: 0 measured, 1 something acknowledged was lost.
"""

from __future__ import annotations

import asyncio
import signal
import statistics
import sys
import tempfile
import threading
from pathlib import Path

import click
import httpx2

from benchmarks.collector.measure import Sent, send
from benchmarks.collector.stores import Ours
from benchmarks.collector.traffic import requests

PEOPLE = 8
QUERIES = (
    "select count(*) from spans a join spans b using (trace_id)",
    "select name, quantile_cont(duration_ns, 0.99), count(distinct trace_id) from spans group by all order by 2 desc",
    "select count(*) from spans a, spans b where a.duration_ns > b.duration_ns",
    "select regexp_extract(attributes, 'usr_[0-9a-f]+'), count(*) from spans group by 1 order by 2 desc limit 10",
    "insert into store.meta values ('a', 'b')",
    "select * from read_text('/etc/passwd')",
)
TIMEOUT_MS = 5000
THINKING_S = 1.0
MOST_SLOWDOWN = 0.25


def _ask(url: str, number: int, stop: threading.Event) -> None:
    """One person: asks, reads the answer, thinks for a second, asks the next."""
    with httpx2.Client(timeout=60, trust_env=False) as http:
        for n in range(number, 10**9):
            query = {"sql": QUERIES[n % len(QUERIES)], "timeoutMs": TIMEOUT_MS}
            try:
                http.post(f"{url}/v1/sql", json=query)
            except httpx2.HTTPError:
                return
            if stop.wait(THINKING_S):
                return


def rate(folder: Path, spans: int, seed: int, people: int) -> tuple[float, int]:
    """Spans a second with so many people, and how many acknowledged spans are not there afterwards."""
    lane = Ours(folder)
    lane.start()
    stop = threading.Event()
    askers = [threading.Thread(target=_ask, args=(lane.url, number, stop), daemon=True) for number in range(people)]
    try:
        warm = Sent()
        asyncio.run(send(lane, requests(20_000, seed=seed + 500), warm, 60))  # something to ask for
        for asker in askers:
            asker.start()
        sent = Sent()
        asyncio.run(send(lane, requests(spans, seed=seed), sent, 120))
        stop.set()
        for asker in askers:
            asker.join(60)
        lost = warm.spans + sent.spans - lane.count()
    finally:
        stop.set()
        lane.stop()
    return sent.spans / sent.seconds, lost


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--spans",
    type=click.IntRange(1000, 2_000_000),
    default=600_000,
    show_default=True,
    help="How many spans: enough that what ran when they began is over.",
)
@click.option("--rounds", type=click.IntRange(1, 20), default=3, show_default=True, help="Rounds over both.")
def main(spans: int, rounds: int) -> None:
    """Measure how much eight people's queries slow the taking of spans: joins, cross joins, attempts to write and to read files."""
    rates: dict[int, list[float]] = {0: [], PEOPLE: []}
    lost = 0
    with tempfile.TemporaryDirectory(prefix="lastword-bench-") as folder:
        for number in range(rounds):
            for people, measured in rates.items():
                found, missing = rate(Path(folder) / f"{number}-{people}", spans, number, people)
                measured.append(found)
                lost += missing
                click.echo(f"{people} people: {found:,.0f} spans/s", err=True)
    alone, beside = statistics.median(rates[0]), statistics.median(rates[PEOPLE])
    slower = 1 - beside / alone
    click.echo(f"| | spans/s acknowledged |\n|---|---|\n| alone | {alone:,.0f} |\n| beside {PEOPLE} people | {beside:,.0f} |\n")
    click.echo("| goal | measured | |\n|---|---|---|")
    click.echo(f"| at most a quarter slower | {slower:.0%} slower | {'met' if slower <= MOST_SLOWDOWN else 'not met'} |")
    click.echo(f"| nothing acknowledged is lost | {lost} lost | {'met' if lost == 0 else 'not met'} |")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))  # so that what was started is ended
    main(prog_name="python -m benchmarks.collector.crowd")
