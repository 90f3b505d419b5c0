"""`python -m collector.lake`, which is `lastword lake`: who is in the lake, and how a collector is taken out of it.

Exit codes: 0 done; 2 the lake, a setting or an argument cannot be used.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import duckdb
import psycopg
from rich.console import Console
from rich.table import Table

from collector.lake.dsn import Dsn, LakeUnusable
from collector.lake.lake import Lake, LakeError
from collector.lake.reading import dsn_of_settings
from collector.lake.registrar import ID_NAME
from collector.lake.registry import Member, Registry
from collector.settings import load_settings
from collector.store.store import HOT_NAME, SEGMENTS_NAME
from lastword.errors import SettingsError

_HELP = {"help_option_names": ["-h", "--help"]}


def _fail(message: str) -> None:
    Console(stderr=True).print(f"lake: {message}", style="red", highlight=False, soft_wrap=True, markup=False)
    sys.exit(2)


@click.group(name="lake", context_settings=_HELP)
def main() -> None:
    """See the lake of several collectors (LASTWORD_COLLECTOR_LAKE_DSN), and take one out of it."""


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(as_json: bool) -> None:
    """Show the collectors of the lake, and how long ago each registered."""
    try:
        dsn = dsn_of_settings()
        members = _members(dsn)
    except (LakeUnusable, LakeError, SettingsError) as error:
        _fail(str(error))
        return
    now = datetime.now(UTC)
    ages = [None if one.registered_at is None else (now - one.registered_at).total_seconds() for one in members]
    if as_json:
        rows = [{"folder": one.folder, "files": one.files, "secondsAgo": age} for one, age in zip(members, ages, strict=True)]
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("folder of segments", "files", "registered")
    for one, age in zip(members, ages, strict=True):
        table.add_row(one.folder, str(one.files), "never" if age is None else f"{age:.0f} s ago")
    Console(highlight=False, width=None if sys.stdout.isatty() else 10_000).print(table)


def _members(dsn: Dsn) -> list[Member]:
    try:
        registry = Registry(dsn, "lastword-lake-info")
        try:
            return registry.members()
        finally:
            registry.close()
    except psycopg.errors.UndefinedTable:
        raise LakeError(f"there is no lake at {dsn.shown()} yet: the first collector makes it") from None
    except psycopg.Error as error:
        raise LakeError(f"the lake at {dsn.shown()} cannot be read: {dsn.hide(error)}") from None


@main.command()
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    help="The folder of segments as `lastword lake info` names it; by default that of LASTWORD_DATA_DIR.",
)
def leave(folder: Path | None) -> None:
    """Take a collector that has ended out of the lake: its rows with it. Its store stays whole, and may enter again."""
    try:
        settings = load_settings()
        dsn = dsn_of_settings()
        store = settings.store_path if folder is None else folder.parent
        segments = (store / SEGMENTS_NAME).resolve() if folder is None else folder
        _check_ended(store)
        lake = Lake(dsn, None, folder=segments)
        files = lake.leave()
        lake.close()
        (store / ID_NAME).unlink(missing_ok=True)
    except (LakeUnusable, LakeError, SettingsError, OSError) as error:
        _fail(str(error))
        return
    click.echo(f"{segments} is out of the lake, with {files} files")


def _check_ended(store: Path) -> None:
    """Makes sure that no collector runs on a store: it would enter again at once.

    Raises:
        LakeUnusable: one runs.
    """
    hot = store / HOT_NAME
    if not hot.exists():
        return
    try:
        duckdb.connect(str(hot)).close()
    except duckdb.IOException:
        raise LakeUnusable(f"a collector runs on {store}: end it first") from None


if __name__ == "__main__":
    main()
