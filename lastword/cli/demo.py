"""`lastword demo`: sends traffic with a few percent of faults, and shows how it goes."""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lastword.cli.traffic import (
    MAX_TURNS,
    Counts,
    Incident,
    Planned,
    Traffic,
    TrafficError,
    plan,
    read_arrivals,
    read_questions,
)
from lastword.client import AsyncTurnClient

START_S = 120.0
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--turns", type=click.IntRange(1, MAX_TURNS), default=300, show_default=True, help="How many questions.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0.01, max=1000),
    default=2.0,
    show_default=True,
    help="Questions per second, on average.",
)
@click.option(
    "--faults", type=click.FloatRange(0, 1), default=0.06, show_default=True, help="Share of turns that get a fault on purpose."
)
@click.option(
    "--break", "broken", metavar="REGEX", help="An incident: cut the streams of the questions that this finds, for a while."
)
@click.option("--break-after", type=click.FloatRange(min=0), default=180, show_default=True, help="Seconds until it begins.")
@click.option("--break-for", type=click.FloatRange(min=0), default=240, show_default=True, help="Seconds that it lasts.")
@click.option(
    "--questions", "questions_path", type=_FILE, help="JSON lines with `question`, and `url` where the right source is known."
)
@click.option(
    "--arrivals", "arrivals_path", type=_FILE, help="CSV with TIMESTAMP, ContextTokens, GeneratedTokens: replays its times."
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0.01, max=10_000),
    default=1.0,
    show_default=True,
    help="How much faster the arrivals are.",
)
@click.option("--no-lengths", is_flag=True, help="Do not aim at the answer lengths of the arrivals.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of everything that is drawn.")
@click.option("--concurrency", type=click.IntRange(1, 1000), default=64, show_default=True, help="Turns at a time.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write the counts to this file.")
@click.option("--url", envvar="LASTWORD_SERVICE_URL", default="http://127.0.0.1:8000", show_default=True, help="The service.")
@click.option("--api-key", envvar="LASTWORD_API_KEY", help="Key of the service, where it wants one.")
@click.option("--exit", "leave", is_flag=True, help="Stop the product afterwards, where the demo started it.")
def demo(
    turns: int,
    rate: float,
    faults: float,
    broken: str | None,
    break_after: float,
    break_for: float,
    questions_path: Path | None,
    arrivals_path: Path | None,
    speed: float,
    no_lengths: bool,
    seed: int,
    concurrency: int,
    json_path: Path | None,
    url: str,
    api_key: str | None,
    leave: bool,
) -> None:
    """Send demo traffic to the service, starting the product where it is not up.

    Asks questions at a realistic rate; a few percent of them ask the embedded provider for a fault, so that there is something to see.
    """
    console = Console(highlight=False)
    try:
        planned = plan(
            turns,
            rng=random.Random(seed),
            rate=rate,
            faults=faults,
            questions=read_questions(questions_path) if questions_path else None,
            arrivals=read_arrivals(arrivals_path, speed) if arrivals_path else None,
            lengths=not no_lengths,
            incident=_incident(broken, break_after, break_for),
        )
    except TrafficError as error:
        raise click.ClickException(str(error)) from error
    with _product(url, console, leave=leave):
        start = time.monotonic()
        counts = asyncio.run(_run(url, api_key, planned, concurrency, console))
        _report(counts, time.monotonic() - start, console)
        if json_path is not None:
            json_path.write_text(
                json.dumps(counts.summary() | {"seconds": round(time.monotonic() - start, 1)}, indent=2) + "\n"
            )
    sys.exit(0 if counts.terminals == counts.planned else 1)


def _incident(pattern: str | None, after_s: float, for_s: float) -> Incident | None:
    if pattern is None:
        return None
    try:
        return Incident(pattern=re.compile(pattern, re.IGNORECASE), after_s=after_s, for_s=for_s)
    except re.error as error:
        raise TrafficError(f"--break {pattern}: {error}") from error


async def _run(url: str, api_key: str | None, planned: list[Planned], concurrency: int, console: Console) -> Counts:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    async with AsyncTurnClient(url, api_key, max_connections=concurrency + 8) as client:
        traffic = Traffic(client, planned, concurrency=concurrency)
        with Progress(*columns, console=console, refresh_per_second=4) as progress:
            task = progress.add_task("asking", total=len(planned), state="")

            def tick(counts: Counts) -> None:
                progress.update(task, completed=counts.done, state=_state(counts))

            return await traffic.run(tick)


def _state(counts: Counts) -> str:
    rate = counts.partial / counts.terminals if counts.terminals else 0
    return f"{counts.in_flight} in flight · {rate:.1%} partial · first token p50 {counts.quantile_ms(0.5)} ms, p95 {counts.quantile_ms(0.95)} ms"


def _report(counts: Counts, seconds: float, console: Console) -> None:
    console.print(f"{counts.terminals} of {counts.planned} turns have exactly one terminal, in {seconds:.0f} s")
    for status, number in counts.by_status.most_common():
        console.print(f"  {status:<12} {number}")
    for error, number in counts.broken.most_common():
        console.print(f"  without terminal, {error}: {number}", style="red")
    if counts.rejected_once:
        console.print(f"  asked again after 503: {counts.rejected_once}")
    if counts.expected:
        console.print(
            f"the right source was among the sources of {counts.found} of {counts.expected} ({counts.found / counts.expected:.1%})"
        )


@contextmanager
def _product(url: str, console: Console, *, leave: bool) -> Iterator[None]:
    """The product: the one that runs, else one of our own, which goes on until Ctrl-C unless told to leave."""
    if _ready(url):
        yield
        return
    if url != "http://127.0.0.1:8000":
        raise click.ClickException(f"no answer from {url}")
    console.print("the product is not up; starting it …")
    child = subprocess.Popen([sys.executable, "-m", "lastword.cli.main", "up", "--follow-parent"], stdin=subprocess.DEVNULL)
    try:
        end = time.monotonic() + START_S
        while not _ready(url):
            if child.poll() is not None or time.monotonic() > end:
                raise click.ClickException("the product did not start; see above")
            time.sleep(0.2)
        yield
        if not leave:
            console.print("\nLook at http://127.0.0.1:8501 · Ctrl-C stops the product.")
            child.wait()
    except KeyboardInterrupt:
        pass
    finally:
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
        child.wait(60)


def _ready(url: str) -> bool:
    try:
        return httpx2.get(f"{url.rstrip('/')}/health/ready", timeout=2, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False
