"""Segments: immutable Parquet files of published rows, and the one way to write them.

Owns the names of files in the folder. A file is written under another name, synced, then renamed: what has a segment's name is whole. Whether it counts is said by
the table of segments in the hot file alone.
"""

from __future__ import annotations

import os
import re
from datetime import datetime
from pathlib import Path

import duckdb
from msgspec import Struct

FORMAT = "FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2"
_FOUND_BY_ID = "ROW_GROUP_SIZE 20480, DICTIONARY_SIZE_LIMIT 20480, STRING_DICTIONARY_PAGE_SIZE_LIMIT 4194304"
"""The engine writes a Bloom filter where a column has a dictionary, and a dictionary where it is small: with these, that of a row group's unique ids is. So one turn of ten
million is found by its id without reading the ids. Of spans it is small anyway, because a turn has many of them."""
_OPTIONS = {
    "ended": f"{FORMAT}, {_FOUND_BY_ID}",
    "spans": f"{FORMAT}, ROW_GROUP_SIZE 40960",  # whoever reads the spans of one turn reads the attributes of a whole row group
    "stage_steps": f"{FORMAT}, ROW_GROUP_SIZE 16384",
}
_NAME = re.compile(r"^([a-z_]+)-(\d{10})\.parquet$")
_UNFINISHED = ".unfinished"


class Segment(Struct, frozen=True):
    """A published file. `level` says how often its rows were compacted; times are those that it is sorted by, none where it is empty."""

    table: str
    file: str
    level: int
    rows: int
    bytes: int
    first_at: datetime | None
    last_at: datetime | None


def sync_file(path: Path) -> None:
    """Makes the content of a file durable."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Makes renames and removals in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def quoted(text: str | Path) -> str:
    """A text as a literal of SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def literal(paths: list[Path]) -> str:
    """A list of paths as a literal of SQL."""
    return "[" + ", ".join(quoted(path) for path in paths) + "]"


class Folder:
    """The folder of segments of one collector."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)

    def file(self, table: str, number: int) -> Path:
        """Where a segment lies. Numbers are never used twice."""
        return self.path / f"{table}-{number:010d}.parquet"

    def empty(self, table: str) -> Path:
        """A segment without rows, so that a table without segments has its columns."""
        return self.path / f"{table}-empty.parquet"

    def highest_number(self) -> int:
        """The largest number in use, 0 where there is none."""
        return max((int(match[2]) for path in self.path.iterdir() if (match := _NAME.match(path.name))), default=0)

    def write(self, connection: duckdb.DuckDBPyConnection, query: str, target: Path, table: str) -> int:
        """Writes the rows of a query into a file of a table, durably; its length in bytes.

        Raises:
            duckdb.Error, OSError: the file is not there under its name.
        """
        unfinished = target.with_name(target.name + _UNFINISHED)
        try:
            connection.execute(f"COPY ({query}) TO {quoted(unfinished)} ({_OPTIONS.get(table, FORMAT)})")
            sync_file(unfinished)
            unfinished.replace(target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        sync_folder(self.path)
        return target.stat().st_size

    def remove_strangers(self, known: set[str]) -> list[str]:
        """Removes what a crash left behind: unfinished files, and segments that were never recorded. Other files are left alone."""
        strangers = [
            path
            for path in self.path.iterdir()
            if path.name not in known and (_NAME.match(path.name) or path.name.endswith(_UNFINISHED))
        ]
        self.remove([path.name for path in strangers])
        return [path.name for path in strangers]

    def remove(self, names: list[str]) -> None:
        """Removes files; those that are gone already are no error."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)
        if names:
            sync_folder(self.path)

    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.path.iterdir() if path.is_file())
