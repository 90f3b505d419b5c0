"""`python -m benchmarks.collector`: measures, prints the table and the goals on standard output, progress on standard error.

Exit codes: 0 measured, whatever came of the goals; 1 a lane could not be measured; 2 the arguments.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import tempfile
import time
from pathlib import Path

import click
import httpx2

from benchmarks.collector.measure import Figures, measure
from benchmarks.collector.report import as_markdown
from benchmarks.collector.stores import LANES
from benchmarks.collector.traffic import ATTRIBUTES, SPANS_A_REQUEST, requests


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, type=click.Choice(list(LANES)), help="Measure this lane; again for more of them.")
@click.option("--spans", type=click.IntRange(1000, 2_000_000), default=100_000, show_default=True, help="How many spans.")
def main(only: tuple[str, ...], spans: int) -> None:
    """Measure how fast spans are taken, kept and found, by the collector and beside it.

    Every lane gets the same requests, four at a time, on the same cores as the sender. Phoenix and MLflow are installed into virtual environments of their own under .cache/
    when they are measured first; their newest versions are taken, and named.
    """
    begun = time.monotonic()

    def tell(text: str) -> None:
        click.echo(f"{time.monotonic() - begun:5.0f} s  {text}", err=True)

    tell(f"making {spans:,} spans")
    bodies = requests(spans)
    found: list[Figures] = []
    failed = False
    with tempfile.TemporaryDirectory(prefix="lastword-bench-") as folder:
        for name in only or LANES:
            try:
                found.append(measure(LANES[name], Path(folder), bodies, tell))
            except (RuntimeError, OSError, httpx2.HTTPError) as error:
                click.echo(f"{name} could not be measured: {error or type(error).__name__}", err=True)
                failed = True
    size = sum(len(one.body) for one in bodies) / spans
    click.echo(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {spans:,} spans of {size:.0f} bytes and {ATTRIBUTES} attributes, "
        f"{SPANS_A_REQUEST} a request, {time.monotonic() - begun:.0f} s\n"
    )
    click.echo(as_markdown(found))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))  # so that what was started is ended
    main(prog_name="python -m benchmarks.collector")
