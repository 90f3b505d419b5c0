"""A copy of a store that is a store itself, made while its collector runs: its segments are never changed, so copying them needs no lock and stops nobody.

Invariant: the copy holds everything that was acknowledged before it began, and is complete when it has its name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from msgspec import Struct, structs

from collector.db.opening import Unusable, catalog, open_store, segments_of, whole
from collector.db.transfer import landed
from collector.settings import CollectorSettings
from collector.store.hot import StoreError
from collector.store.publisher import MAX_LEVEL
from collector.store.rollups import ROLLUPS
from collector.store.segments import Segment, quoted, sync_file
from collector.store.tables import SNAPSHOTS, TABLES
from collector.store.views import resting

ATTEMPTS = 5
"""How often the list of segments is read anew where a file went while it was copied."""
Progress = Callable[[int], None]
"""Called with the bytes of a file that was just copied."""


class Copied(Struct, frozen=True):
    """What a backup holds."""

    rows: dict[str, int]
    files: int
    bytes: int


def back_up(settings: CollectorSettings, target: Path, *, link: bool, begin: Progress, progress: Progress) -> Copied:
    """Copies the published store of one data folder into another, which a collector can be started on. `begin` gets the bytes of all files.

    Raises:
        Unusable: the folder holds something, or cannot be written, or files went faster than they could be copied.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise Unusable(f"{target} is there already, and a backup wants a folder of its own")
    unfinished = target.with_name(target.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        made = structs.replace(settings, data_dir=str(unfinished))
        folder = made.store_path / "segments"
        folder.mkdir(parents=True)
        segments = _copy(settings, folder, link=link, begin=begin, progress=progress)
        copied = record(made, segments)
        if target.exists():
            target.rmdir()
        unfinished.rename(target)
        with whole(structs.replace(settings, data_dir=str(target))) as held:  # its catalog names its own files
            if not held.publisher.round():
                raise Unusable(f"{target} is complete, but its catalog could not be written: {held.publisher.state.last_error}")
    except (OSError, duckdb.Error, StoreError) as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise Unusable(f"{target} could not be written: {error}") from error
    except Unusable:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return copied


def _copy(
    settings: CollectorSettings, folder: Path, *, link: bool, begin: Progress, progress: Progress
) -> dict[str, list[Path]]:
    """Copies the segments of the newest catalog whose files are all still there; the copies by table."""
    for attempt in range(ATTEMPTS):
        with catalog(settings.store_path) as connection:
            wanted = segments_of(connection)
        if attempt == 0:
            begin(sum(path.stat().st_size for paths in wanted.values() for path in paths if path.exists()))
        try:
            for path in (path for paths in wanted.values() for path in paths):
                if not (folder / path.name).exists():
                    _copy_one(path, folder / path.name, link=link)
                    progress((folder / path.name).stat().st_size)
        except FileNotFoundError:  # compacted since, and the grace of readers is over
            continue
        kept = {path.name for paths in wanted.values() for path in paths}
        for path in folder.iterdir():
            if path.name not in kept:
                path.unlink()
        return {table: [folder / path.name for path in paths] for table, paths in wanted.items()}
    raise Unusable("the collector removed segments faster than they could be copied: try again, or with --link")


def _copy_one(source: Path, target: Path, *, link: bool) -> None:
    if link:
        os.link(source, target)
    else:
        shutil.copyfile(source, target)
        sync_file(target)


def record(made: CollectorSettings, segments: dict[str, list[Path]]) -> Copied:
    """Makes the hot file of the copy: its records of segments, and the small tables that lie in the hot file."""
    store = open_store(made)
    try:
        with store.reading() as reader:
            measured = [_measured(reader, table, path) for table, paths in segments.items() for path in paths]
        small = [(segment.table, store.folder.path / segment.file) for segment in measured if segment.table in SNAPSHOTS]
        store.transaction(lambda connection: _rest(connection, small))
        store.adopt(None, [segment for segment in measured if segment.table not in SNAPSHOTS], [])
        store.folder.remove([path.name for _, path in small])
    finally:
        store.close()
    rows = dict.fromkeys(segments, 0)
    for segment in measured:
        rows[segment.table] += segment.rows
    return Copied(rows, len(measured), sum(segment.bytes for segment in measured))


def _measured(reader: duckdb.DuckDBPyConnection, table: str, path: Path) -> Segment:
    """What a file holds. How often it was compacted is not known: by its rows it is what so many rows usually are."""
    at = ROLLUPS[table].at if table in ROLLUPS else {**TABLES, **SNAPSHOTS}[table].sort_at
    row = reader.execute(
        f"SELECT count(*), epoch_us(min({at})), epoch_us(max({at})) FROM read_parquet({quoted(path)})"
    ).fetchone()
    rows, first, last = row or (0, None, None)
    times = [None if us is None else datetime.fromtimestamp(us / 1e6, UTC) for us in (first, last)]
    return Segment(table, path.name, min(MAX_LEVEL, len(str(rows)) - 1), rows, path.stat().st_size, times[0], times[1])


def _rest(connection: duckdb.DuckDBPyConnection, small: list[tuple[str, Path]]) -> None:
    for name, path in small:
        described = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({quoted(path)})").fetchall()
        columns = {column: kind for column, kind, *_ in described}
        table = SNAPSHOTS[name]
        query = f"SELECT {landed(table, columns)} FROM read_parquet({quoted(path)})"
        connection.execute(f"INSERT INTO {resting(table)} BY NAME {query}")
