"""Export to a folder of Parquet files, and import of such a folder into a store, through the store's own way of landing rows: a row that is there already is not stored again.

Carries what was sent: spans, turns, open turns, violations and content. The counts by the minute are made anew where the turns are published.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from hashlib import file_digest
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pyarrow as pa
from msgspec import Struct

from collector.db.opening import Unusable, Whole
from collector.store.hot import StoreError
from collector.store.segments import FORMAT, quoted
from collector.store.tables import SNAPSHOTS, TABLES, Table
from lastword import __version__

MANIFEST = "manifest.json"
FORMAT_NAME = "lastword-export/1"
BATCH_ROWS = 20_000
PUBLISH_ROWS = 500_000
"""Rows that are imported between two publications, so that the hot file stays small."""
CARRIED: dict[str, Table] = {**TABLES, "accepted": SNAPSHOTS["accepted"]}
"""What is carried. `accepted` comes last: a turn that ended is not opened again."""
Progress = Callable[[int], None]
"""Called with the number of rows that were just carried."""


class ExportedTable(Struct, frozen=True, kw_only=True, rename="camel"):
    """A file of an export."""

    file: str
    rows: int
    bytes: int
    sha256: str
    oldest: datetime | None
    newest: datetime | None


class Manifest(Struct, frozen=True, kw_only=True, rename="camel"):
    """What an export says of itself."""

    format: str
    version: str
    made_at: datetime
    since: datetime | None
    until: datetime | None
    tables: dict[str, ExportedTable]

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables.values())


class Window(Struct, frozen=True):
    """Which rows are exported, by the time that their table is sorted by: from `since`, up to and without `until`."""

    since: datetime | None
    until: datetime | None

    def where(self, column: str) -> tuple[str, list[datetime]]:
        """A condition, with its values."""
        tests = {f"{column} >= ?": self.since, f"{column} < ?": self.until}
        values = [value for value in tests.values() if value is not None]
        return " AND ".join(test for test, value in tests.items() if value is not None) or "true", values


def export(connection: duckdb.DuckDBPyConnection, target: Path, names: tuple[str, ...], window: Window) -> Manifest:
    """Writes tables of a catalog into a new folder.

    Raises:
        Unusable: the folder holds something, or cannot be written.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Unusable(f"{target} is there already, and an export wants a folder of its own")
    unfinished = target.with_name(target.name + ".unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        tables = {name: _export_one(connection, unfinished, CARRIED[name], window) for name in names}
        manifest = Manifest(
            format=FORMAT_NAME,
            version=__version__,
            made_at=datetime.now(UTC),
            since=window.since,
            until=window.until,
            tables=tables,
        )
        (unfinished / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
        if target.exists():
            target.rmdir()
        unfinished.rename(target)
    except (duckdb.Error, OSError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise Unusable(f"{target} could not be written: {error}") from error
    return manifest


def _export_one(connection: duckdb.DuckDBPyConnection, folder: Path, table: Table, window: Window) -> ExportedTable:
    path = folder / f"{table.name}.parquet"
    where, values = window.where(table.sort_at)
    query = f"SELECT * FROM store.{table.name} WHERE {where} ORDER BY {table.order}"
    connection.execute(f"COPY ({query}) TO {quoted(path)} ({FORMAT})", values)
    rows, oldest, newest = _extent(connection, path, table)
    return ExportedTable(
        file=path.name, rows=rows, bytes=path.stat().st_size, sha256=_sha256(path), oldest=oldest, newest=newest
    )


def _extent(connection: duckdb.DuckDBPyConnection, path: Path, table: Table) -> tuple[int, datetime | None, datetime | None]:
    at = table.sort_at
    query = f"SELECT count(*), epoch_us(min({at})), epoch_us(max({at})) FROM read_parquet({quoted(path)})"
    rows, first, last = connection.execute(query).fetchone() or (0, None, None)
    times = [None if us is None else datetime.fromtimestamp(us / 1e6, UTC) for us in (first, last)]
    return int(rows), times[0], times[1]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """What an export holds; every file of it is as it was written.

    Raises:
        Unusable: it is no export, of another format, or a file was changed.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as error:
        raise Unusable(f"{folder} is no export: it has no {MANIFEST} ({error.strerror})") from error
    except msgspec.MsgspecError as error:
        raise Unusable(f"{path} cannot be read: {error}") from error
    if manifest.format != FORMAT_NAME:
        raise Unusable(f"{folder} is an export of format {manifest.format!r}; {FORMAT_NAME!r} is understood")
    if unknown := sorted(manifest.tables.keys() - CARRIED.keys()):
        raise Unusable(f"{folder} holds tables that are not known: {', '.join(unknown)}")
    for table in manifest.tables.values():
        file = folder / Path(table.file).name
        if not file.is_file():
            raise Unusable(f"{file} is missing")
        if _sha256(file) != table.sha256:
            raise Unusable(f"{file} is not as it was written: its SHA-256 is another")
    return manifest


def landed(table: Table, columns: dict[str, str]) -> str:
    """The columns as they land, as a select list over published ones; `columns` are those of the file, with their types. What it does not have is null."""
    return ", ".join(f'{_landed(field.name, columns)} AS "{field.name}"' for field in table.schema)


def _landed(name: str, columns: dict[str, str]) -> str:
    at = name.removesuffix("_ns") + "_at"
    if name == "start_ns" and "started_at" in columns:
        return f"epoch_us(started_at) * 1000 + {'start_rest_ns' if 'start_rest_ns' in columns else 0}"
    if name.endswith("_ns") and at in columns:
        return f"epoch_us({at}) * 1000"
    if name not in columns:
        return "NULL"
    return f'CAST(to_json("{name}") AS VARCHAR)' if columns[name].endswith("[]") else f'"{name}"'


def batches(folder: Path, manifest: Manifest) -> Iterator[tuple[str, pa.Table]]:
    """The rows of an export as they land, table by table, a batch at a time."""
    for name, table in CARRIED.items():
        if name not in manifest.tables:
            continue
        path = quoted(folder / Path(manifest.tables[name].file).name)
        with duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false"}) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({path})").fetchall()
            columns = {column: kind for column, kind, *_ in described}
            query = f"SELECT {landed(table, columns)} FROM read_parquet({path})"
            for batch in connection.execute(query).to_arrow_reader(BATCH_ROWS):
                yield name, pa.Table.from_batches([batch]).cast(table.schema)


def load(held: Whole, folder: Path, manifest: Manifest, progress: Progress) -> tuple[int, int]:
    """Lands and publishes the rows of an export; how many were new, and how many were there.

    Raises:
        Unusable: a batch could not be stored. What was stored before it stays, and importing again completes it.
    """
    stored = duplicates = since = 0
    try:
        for name, batch in batches(folder, manifest):
            appended = held.writer.call(partial(held.store.append, {name: batch}))
            stored += sum(appended.stored.values())
            duplicates += sum(appended.duplicates.values())
            since += batch.num_rows
            if since >= PUBLISH_ROWS:
                held.publish()
                since = 0
            progress(batch.num_rows)
        held.publish()
    except (StoreError, duckdb.Error, pa.ArrowException) as error:
        raise Unusable(f"the import stopped after {stored} rows: {error}. Importing again goes on where it stopped.") from error
    return stored, duplicates


def as_json(value: Any) -> str:
    """A value as indented JSON."""
    return json.dumps(msgspec.to_builtins(value), indent=2, ensure_ascii=False)
