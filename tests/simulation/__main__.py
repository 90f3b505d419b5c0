"""`python -m tests.simulation`: runs seeds, prints how to replay those that fail, and what occurred.

Exit codes: 0 every invariant held, 1 a seed failed, 2 the arguments.
"""

import logging
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service.store.engine import migrate, open_engine
from tests.simulation.invariants import check
from tests.simulation.scenario import Run

SEEDS = 2_000
MAX_FAILURES = 5


def database(folder):
    """A database for many runs. What it holds need not survive a power cut."""
    engine = open_engine(f"sqlite:///{folder}/turns.sqlite")
    migrate(engine)
    return engine


def run_seed(seed, engine, tell=None):
    """Runs one seed and checks it; the run, and the error that it met."""
    run = Run(seed, engine, tell)
    logging.disable(
        logging.CRITICAL if tell is None else logging.NOTSET
    )  # the faults are wanted, and so is what the service would log of them
    try:
        run.go()
        check(run)
    except Exception as error:  # noqa: BLE001 - whatever breaks is the seed's failure
        return run, error
    finally:
        logging.disable(logging.NOTSET)
    return run, None


def run_seeds(seeds, engine, told=lambda _: None):
    """Runs seeds; what occurred, and the failures by seed."""
    counts, failures = Counter(), {}
    for seed in seeds:
        run, error = run_seed(seed, engine)
        counts += run.counts
        told(seed)
        if error is not None:
            failures[seed] = error
            if len(failures) >= MAX_FAILURES:
                break
    return counts, failures


def replay(seed):
    """The command that runs a seed again and shows what happens in it."""
    return f"python -m tests.simulation --seed {seed} -v"


def _span(_ctx, _param, value):
    first, dots, last = value.partition("..")
    if not dots or not first.isdigit() or not last.isdigit() or int(first) > int(last):
        raise click.BadParameter("a span of seeds looks like 0..1999")
    return range(int(first), int(last) + 1)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", type=click.IntRange(0), help="Run this seed alone.")
@click.option("--seeds", default=f"0..{SEEDS - 1}", show_default=True, callback=_span, help="Run these seeds.")
@click.option("-v", "--verbose", is_flag=True, help="Show every step of the run, in virtual time.")
def main(seed, seeds, *, verbose):
    """Run the turn service in virtual time, with faults at every point, and check what must never happen.

    A seed decides everything: the turns, the model, the clients, the faults, and who acts first.
    """
    console = Console(stderr=True)
    chosen = [seed] if seed is not None else list(seeds)
    with tempfile.TemporaryDirectory(prefix="lastword-simulation-") as folder:
        engine = database(Path(folder))
        if verbose:
            failures = {}
            for one in chosen:
                run, error = run_seed(one, engine, tell=click.echo)
                if error is not None:
                    failures[one] = error
            counts = run.counts
        else:
            columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TextColumn("seeds"), TimeElapsedColumn())
            with Progress(*columns, console=console) as progress:
                task = progress.add_task("seeds", total=len(chosen))
                counts, failures = run_seeds(chosen, engine, lambda _: progress.advance(task))
        engine.dispose()
    for failed, error in failures.items():
        click.echo(f"seed {failed} failed: {type(error).__name__}: {error}\n  replay it: {replay(failed)}")
        if verbose:
            click.echo("".join(traceback.format_exception(error)))
    if not verbose:
        for name, count in sorted(counts.items()):
            click.echo(f"{count:7d}  {name}")
    click.echo(f"{len(chosen)} seeds, {len(failures)} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main(prog_name="python -m tests.simulation")
