from __future__ import annotations

import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pa_parquet
import pytest

from dashboard import results
from dashboard.markup import result_table
from dashboard.results import Picture

AT = datetime(2026, 11, 24, 12, 30, 5, 250_000, UTC)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "–"),
        (True, "true"),
        (1_234_567, "1234567"),
        (0.123456, "0.1235"),
        (123456.7, "123457"),
        (Decimal("1.50"), "1.50"),
        (AT, "2026-11-24 12:30:05.250"),
        (["a", AT], '["a","2026-11-24T12:30:05.250000Z"]'),
        ("x" * 500, "x" * 139 + "…"),
    ],
)
def test_value_reads_well(value: Any, expected: str) -> None:
    """Whatever a column holds becomes a short text; what is not known is a dash, never 0."""
    assert results.said(value) == expected


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"step": [AT, AT], "n": [1, 2]}, Picture("step", "n", over_time=True)),
        ({"route": ["a", "b"], "name": ["x", "y"], "rate": [0.5, 1.0]}, Picture("route", "rate", over_time=False)),
        ({"turn_id": ["a", "b"], "n": [1, 2]}, None),
        ({"route": ["a"], "n": [1]}, None),
        ({"n": [1, 2], "m": [1, 2]}, None),
        ({"route": [str(place) for place in range(31)], "n": list(range(31))}, None),
        ({"route": ["a", "b"]}, None),
    ],
)
def test_picture_is_drawn_where_it_says_something(columns: dict[str, list[Any]], expected: Picture | None) -> None:
    """A figure over time, or beside a few words; not over ids, over another figure, or for a single row."""
    assert results.picture(pa.table(columns)) == expected


def test_columns_of_one_name_are_no_picture() -> None:
    """Rows as dictionaries would hold only one of them; as cells both are there."""
    table = pa.Table.from_arrays([pa.array(["a", "b"]), pa.array([1, 2]), pa.array([3, 4])], names=["r", "n", "n"])
    assert results.picture(table) is None
    assert results.cells(table, 1) == [["a", "1", "3"]]


def test_files_hold_every_row_and_value() -> None:
    """CSV writes lists as JSON; Parquet keeps them."""
    table = pa.table({"turn_id": ["t1", "t2"], "sources": [["u", "v"], None]})
    assert results.csv(table).decode().splitlines()[1:] == ['"t1","[""u"",""v""]"', '"t2",']
    assert pa_parquet.read_table(io.BytesIO(results.parquet(table))).to_pylist() == table.to_pylist()


def test_result_is_escaped_and_ids_lead_to_turns() -> None:
    """What is stored is somebody else's text; only the column of turn ids becomes links."""
    html = result_table(["turn_id", "note"], [["trn_1", "<b>"], ["–", "x"]], 0, {"window": "6h"})
    assert "<b>" not in html
    assert html.count("<a ") == 1
    assert 'href="/turn?id=trn_1&amp;window=6h"' in html
