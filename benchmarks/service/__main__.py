"""`python -m benchmarks.service`: measures, prints tables and goals on standard output, progress on standard error.

Exit codes: 0 measured, whatever came of the goals; 1 a turn was broken, or a part could not be measured; 2 the arguments.
"""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import click
import msgspec
from msgspec import structs

from benchmarks.service import programs
from benchmarks.service.measure import QUICK, SECTIONS, Size, Table
from benchmarks.service.report import as_markdown, goals


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, type=click.Choice(list(SECTIONS)), help="Measure this part; again for more of them.")
@click.option("--rounds", type=click.IntRange(1, 50), help="Rounds over all lanes; by default 5.")
@click.option("--quick", is_flag=True, help="A few turns of everything, to see that it works. Its figures mean nothing.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the figures to this file too."
)
def main(only: tuple[str, ...], rounds: int | None, json_path: Path | None, *, quick: bool) -> None:
    """Measure how fast the service streams, beside other ways to do it.

    Every server runs on one core and the client on another, on uvicorn, in one run; the figures are medians over the rounds.
    LiteLLM is installed into a virtual environment of its own under .cache/ when it is measured first.
    """
    size = QUICK if quick else Size()
    if rounds is not None:
        size = structs.replace(size, rounds=rounds)
    os.sched_setaffinity(0, {programs.cores()[1]})
    begun = time.monotonic()

    def tell(text: str) -> None:
        click.echo(f"{time.monotonic() - begun:5.0f} s  {text}", err=True)

    tables: list[Table] = []
    failed = False
    with tempfile.TemporaryDirectory(prefix="lastword-bench-") as folder:
        for name in only or SECTIONS:
            try:
                tables += SECTIONS[name](size, Path(folder), tell)
            except (RuntimeError, OSError, TimeoutError) as error:
                click.echo(f"{name} could not be measured: {error or type(error).__name__}", err=True)
                failed = True
    if not tables:
        sys.exit(1)
    click.echo(
        f"Python {platform.python_version()}, {os.cpu_count()} cores, {size.rounds} rounds, {time.monotonic() - begun:.0f} s\n"
    )
    click.echo(as_markdown(tables))
    if json_path is not None:
        told = {"size": size, "tables": tables, "goals": goals(tables)}
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2))
    sys.exit(1 if failed or any(table.broken for table in tables) else 0)


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.service")
