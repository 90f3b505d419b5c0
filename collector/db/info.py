"""What a store holds: rows, times and bytes of each table. Reads the catalog and the names of files, so a collector may run meanwhile."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import duckdb
from msgspec import Struct

from collector.db.opening import segments_of
from collector.store.rollups import ROLLUPS
from collector.store.segments import literal
from collector.store.tables import TABLES


class Holding(Struct, frozen=True, kw_only=True, rename="camel"):
    """What is published of one table. Times are those that it is sorted and kept by."""

    table: str
    rows: int
    oldest: datetime | None
    newest: datetime | None
    segments: int
    bytes: int


def time_column(table: str) -> str | None:
    """The column that a table is sorted by; none where it is published as a whole."""
    return ROLLUPS[table].at if table in ROLLUPS else TABLES[table].sort_at if table in TABLES else None


def holdings(connection: duckdb.DuckDBPyConnection) -> list[Holding]:
    """Every table of a catalog."""
    return [_holding(connection, table, files) for table, files in segments_of(connection).items()]


def _holding(connection: duckdb.DuckDBPyConnection, table: str, files: list[Path]) -> Holding:
    rows, oldest, newest = 0, None, None
    if files:
        column = time_column(table)
        times = f"epoch_us(min({column})), epoch_us(max({column}))" if column else "NULL, NULL"
        row = connection.execute(
            f"SELECT count(*), {times} FROM read_parquet({literal(files)}, union_by_name = true)"
        ).fetchone()
        rows, first, last = row or (0, None, None)
        oldest, newest = _time(first), _time(last)
    size = sum(file.stat().st_size for file in files)
    return Holding(table=table, rows=rows, oldest=oldest, newest=newest, segments=len(files), bytes=size)


def _time(us: int | None) -> datetime | None:
    return None if us is None else datetime.fromtimestamp(us / 1e6, UTC)
