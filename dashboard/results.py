"""The result of a query that a person wrote: how its values read, which of its columns lead to a turn, and what can be drawn of it.

Pure. Any column may hold anything; a value that cannot be read well is shown as its text, cut.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from msgspec import Struct

from dashboard import text

MAX_CHARS = 140
MAX_BARS = 30
MAX_POINTS = 1500
TURN_ID = "turn_id"


class Picture(Struct, frozen=True):
    """What can be drawn: `y` over `x`, a line over time or a bar per row."""

    x: str
    y: str
    over_time: bool


def said(value: Any) -> str:
    """A value as a text for a cell."""
    match value:
        case None:
            return text.NONE
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"
        case datetime():
            return value.strftime("%Y-%m-%d %H:%M:%S") + (f".{value.microsecond // 1000:03d}" if value.microsecond else "")
        case list() | dict():
            return text.clipped(msgspec.json.encode(value, enc_hook=str).decode(), MAX_CHARS)
        case _:
            return text.clipped(str(value), MAX_CHARS)


def picture(table: pa.Table) -> Picture | None:
    """The first figure over the first column, where that is a time or a word for each of a few rows; else nothing."""
    if table.num_columns < 2 or table.num_rows < 2:
        return None
    first = table.schema.field(0)
    figures = [column.name for column in list(table.schema)[1:] if pa.types.is_integer(column.type) or _is_real(column.type)]
    if not figures or len(set(table.column_names)) < table.num_columns:
        return None
    if pa.types.is_timestamp(first.type) or pa.types.is_date(first.type):
        return Picture(first.name, figures[0], over_time=True) if table.num_rows <= MAX_POINTS else None
    if (pa.types.is_string(first.type) or pa.types.is_large_string(first.type)) and table.num_rows <= MAX_BARS:
        return Picture(first.name, figures[0], over_time=False) if first.name != TURN_ID else None
    return None


def _is_real(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def cells(table: pa.Table, limit: int) -> list[list[str]]:
    """The first rows as texts, a list per row; columns of one name stay two."""
    columns = [[said(value) for value in column.slice(0, limit).to_pylist()] for column in table.columns]
    return [list(row) for row in zip(*columns, strict=True)]


def turn_column(names: Sequence[str]) -> int | None:
    """The place of the column that leads to a turn, if there is one."""
    return list(names).index(TURN_ID) if TURN_ID in names else None


def csv(table: pa.Table) -> bytes:
    """The rows as CSV; lists and structs as JSON, which CSV has no word for."""
    plain = [
        pa.array([None if value is None else msgspec.json.encode(value, enc_hook=str).decode() for value in column.to_pylist()])
        if pa.types.is_nested(column.type)
        else column
        for column in table.columns
    ]
    buffer = io.BytesIO()
    pa_csv.write_csv(pa.Table.from_arrays(plain, names=table.column_names), buffer)
    return buffer.getvalue()


def parquet(table: pa.Table) -> bytes:
    """The rows as Parquet."""
    buffer = io.BytesIO()
    pa_parquet.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
