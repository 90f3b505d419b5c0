"""`python -m collector.db`, which is `lastword db`: the store from the command line, while its collector runs or not.

Exit codes: 0 done; 1 `check` found something; 2 the arguments, a setting or the store cannot be used.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
import duckdb
from msgspec import structs
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from collector.app import keep_of
from collector.db import backup as backing
from collector.db import generate as generating
from collector.db import opening, transfer
from collector.db.check import MAX_PROBLEMS, problems_of_catalog, problems_of_store
from collector.db.info import holdings, time_column
from collector.db.opening import Unusable, whole
from collector.db.show import amount, holdings_table
from collector.settings import CollectorSettings, load_settings
from collector.store.hot import StoreError, StoreInUse
from lastword.errors import SettingsError

_HELP = {"help_option_names": ["-h", "--help"]}
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_TIMES = ("%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z")
MAX_TURNS = 10_000_000


def _fail(message: str) -> None:
    Console(stderr=True).print(f"db: {message}", style="red", highlight=False, soft_wrap=True, markup=False)
    sys.exit(2)


@contextmanager
def _settings(context: click.Context) -> Iterator[CollectorSettings]:
    """The collector's settings, with the data folder that was named; failures become one line."""
    try:
        settings = load_settings()
        folder = context.obj
        yield settings if folder is None else structs.replace(settings, data_dir=str(folder))
    except (Unusable, SettingsError, StoreError, duckdb.Error, OSError) as error:
        _fail(str(error))


def _utc(time: datetime | None) -> datetime | None:
    return time if time is None or time.tzinfo is not None else time.replace(tzinfo=UTC)


@contextmanager
def _bar(text: str, total: int) -> Iterator[Progress]:
    """A progress bar on standard error, with one task."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TaskProgressColumn(show_speed=True),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        bar.add_task(text, total=total)
        yield bar


@click.group(name="db", context_settings=_HELP)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    help="The data folder whose store is meant; by default LASTWORD_DATA_DIR, or `data`.",
)
@click.pass_context
def main(context: click.Context, data_dir: Path | None) -> None:
    """Look after the collector's store: what it holds, whether it is whole, copies of it.

    A store is the folder DATA_DIR/collector. Every command but `import` works while the collector runs: then it reads what is published, and asks the collector
    for what only the collector may do. Settings are the collector's own (LASTWORD_COLLECTOR_*).
    """
    context.obj = data_dir


@main.command()
@_JSON
@click.pass_context
def info(context: click.Context, *, as_json: bool) -> None:
    """Show what the store holds: rows, times and bytes of each table.

    Rows of the last seconds, which are not published yet, are not counted.
    """
    with _settings(context) as settings:
        opening.must_exist(settings)
        with opening.catalog(settings.store_path) as connection:
            found = holdings(connection)
        running = opening.answers(settings)
        if as_json:
            click.echo(transfer.as_json({"folder": str(settings.store_path), "collectorRuns": running, "tables": found}))
            return
        keep = keep_of(settings)
        console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
        console.print(holdings_table(found, keep))
        total = sum(path.stat().st_size for path in settings.store_path.rglob("*") if path.is_file())
        state = f"a collector answers at {opening.address(settings)}" if running else "no collector answers"
        console.print(f"{settings.store_path}: {amount(total)} with everything; {state}", soft_wrap=True)


@main.command()
@click.pass_context
def check(context: click.Context) -> None:
    """Check that the store is whole. Reads every byte of it, and changes nothing.

    Every segment is there and can be read; no row stands twice; the counts by the minute are those of the turns; where no collector runs, the hot file, the
    files and the catalog agree as well. Exit status 1 where something is wrong.
    """
    with _settings(context) as settings:
        opening.must_exist(settings)
        problems: list[str] = []
        with opening.catalog(settings.store_path) as connection:
            published = {path.name for paths in opening.segments_of(connection).values() for path in paths}
            try:
                store = opening.open_store(settings)
            except StoreInUse:
                click.echo("a collector holds the store: what is published is checked", err=True)
            except StoreError as error:
                problems.append(f"no collector can start on it: {error}")
            else:
                problems += problems_of_store(store, published)
                store.close()
            tell = lambda text: click.echo(text, err=True)  # noqa: E731 - one line, used once
            problems += problems_of_catalog(connection, keep_of(settings), datetime.now(UTC), tell)
        for problem in problems[:MAX_PROBLEMS]:
            click.echo(problem)
        if problems:
            click.echo(f"{len(problems)} problems", err=True)
            sys.exit(1)
        click.echo("the store is whole")


@main.command()
@click.option("--spans-days", type=click.IntRange(0, 36_500), help="Keep spans for so many days instead; 0 for ever.")
@click.option("--turns-days", type=click.IntRange(0, 36_500), help="The same for turns.")
@click.option("--rollups-days", type=click.IntRange(0, 36_500), help="The same for the counts by the minute.")
@click.option("--content-days", type=click.IntRange(0, 36_500), help="The same for captured prompts and answers.")
@click.pass_context
def prune(context: click.Context, /, **days: int | None) -> None:
    """Remove now what is older than the settings keep it (LASTWORD_COLLECTOR_SPANS_DAYS and others).

    The collector does this by itself every minute. Other days can be given while no collector runs. Files go ten minutes later, for readers of the catalog that
    know them; where no collector runs, at its next start.
    """
    chosen = {name: value for name, value in days.items() if value is not None}
    with _settings(context) as settings:
        opening.must_exist(settings)
        try:
            with whole(settings, keep_of(structs.replace(settings, **chosen))) as held:
                held.publish()
                held.publisher.prune()
                rows, size = held.publisher.pruned.rows, held.publisher.pruned.bytes  # publishing prunes too
        except StoreInUse:
            if chosen:
                raise Unusable(
                    "a collector holds the store and prunes by its own settings: change LASTWORD_COLLECTOR_*_DAYS and restart it, or stop it first"
                ) from None
            answer = opening.ask(settings, "/v1/store/prune")
            rows, size = answer["rows"], answer["bytes"]
        click.echo(f"removed {rows:,} rows, {amount(size)}" if rows else "nothing is overdue")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--table",
    "tables",
    multiple=True,
    type=click.Choice(list(transfer.CARRIED)),
    help="This table; again for more. All by default.",
)
@click.option("--no-content", is_flag=True, help="Leave captured prompts and answers out.")
@click.option("--since", type=click.DateTime(_TIMES), help="Rows from this time on, UTC.")
@click.option("--until", type=click.DateTime(_TIMES), help="Rows before this time, UTC.")
@click.pass_context
def export(
    context: click.Context,
    folder: Path,
    tables: tuple[str, ...],
    since: datetime | None,
    until: datetime | None,
    *,
    no_content: bool,
) -> None:
    """Write turns, spans and what belongs to them into FOLDER: a Parquet file for each table, and a manifest.

    FOLDER is made, and is complete when it is there. Read it with whatever reads Parquet, or load it with `import`. Times are when a span started, and when a
    turn ended. The tables have the names and columns of the schema `store` (a turn is in `ended`).
    """
    names = tuple(name for name in tables or transfer.CARRIED if not (no_content and name == "content"))
    with _settings(context) as settings:
        window = transfer.Window(_utc(since), _utc(until))
        if window.since is not None and window.until is not None and window.since >= window.until:
            raise Unusable("--since is not before --until: nothing lies between")
        opening.publish(settings)
        with opening.catalog(settings.store_path) as connection:
            manifest = transfer.export(connection, folder, names, window)
        for name, table in manifest.tables.items():
            click.echo(f"{name}: {table.rows:,} rows, {amount(table.bytes)}")
        click.echo(f"{manifest.rows:,} rows are in {folder}")


@main.command("import")
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.pass_context
def import_(context: click.Context, folder: Path) -> None:
    """Load an export from FOLDER into the store. No collector may run on it.

    Rows that are there already are left as they are, so an import can be repeated, and exports of several stores can be brought together in one.
    """
    with _settings(context) as settings:
        manifest = transfer.read_manifest(folder)
        try:
            with whole(settings) as held, _bar("rows", manifest.rows) as bar:
                stored, duplicates = transfer.load(held, folder, manifest, lambda rows: bar.advance(bar.task_ids[0], rows))
        except StoreInUse as error:
            raise Unusable(f"{error}: stop it for the import") from error
        click.echo(f"{stored:,} rows are new, {duplicates:,} were there already")
        keep, now = keep_of(settings), datetime.now(UTC)
        for name, table in manifest.tables.items():
            border = keep.border(name, now)
            if border is not None and table.oldest is not None and table.oldest < border and time_column(name):
                click.echo(
                    f"rows of {name} from before {border:%Y-%m-%d} are older than they are kept, and the collector removes them",
                    err=True,
                )


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--link", is_flag=True, help="Hard links instead of copies: at once and without space, on the same file system only."
)
@click.pass_context
def backup(context: click.Context, folder: Path, *, link: bool) -> None:
    """Copy the whole store into FOLDER, while the collector runs.

    FOLDER is a data folder of its own, with everything that was acknowledged before the backup began, and is complete when it is there: to restore it, start a
    collector with LASTWORD_DATA_DIR=FOLDER, or move FOLDER/collector to where it belongs.
    """
    with _settings(context) as settings:
        opening.publish(settings)
        with _bar("bytes", 0) as bar:
            task = bar.task_ids[0]
            copied = backing.back_up(
                settings,
                folder.absolute(),
                link=link,
                begin=lambda total: bar.update(task, total=total),
                progress=lambda size: bar.advance(task, size),
            )
        rows = ", ".join(f"{count:,} {table}" for table, count in copied.rows.items() if count)
        click.echo(f"{copied.files} files, {amount(copied.bytes)} are in {folder}: {rows or 'no rows'}")


@main.command()
@click.argument("turns", type=click.IntRange(1, MAX_TURNS))
@click.option(
    "--days", type=click.FloatRange(0.001, 3650), default=1.0, show_default=True, help="Spread over so many days before now."
)
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of everything that is drawn: the same turns again.")
@click.pass_context
def generate(context: click.Context, turns: int, days: float, seed: int) -> None:
    """Load TURNS synthetic turns with their spans, to see what charts, queries and disks do with so many.

    They are drawn like real traffic: four routes, two tiers, days that swell and ebb, tools, sources, retries, an hour in which the provider is overloaded, and
    every way for a turn to end. They take the road of real ones, as OTLP requests: to the running collector, else into the store itself. About 14 spans a turn.
    """
    wanted = generating.Wanted(turns=turns, days=days, seed=seed, end=datetime.now(UTC))
    with _settings(context) as settings, _bar("turns", turns) as bar:
        advance = lambda count: bar.advance(bar.task_ids[0], count)  # noqa: E731 - one line, used twice
        try:
            with whole(settings, every_ms=settings.publish_ms) as held:
                loaded = generating.into_store(held, settings, wanted, advance)
        except StoreInUse:
            loaded = generating.into_collector(settings, wanted, advance)
    click.echo(f"{loaded.turns:,} turns with {loaded.spans:,} spans over {days:g} days are in {settings.store_path}")


if __name__ == "__main__":
    main(prog_name="lastword db")
