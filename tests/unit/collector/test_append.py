"""The keys that rows are known by are the same, read by the engine or without it: otherwise what comes again would be stored again after a start."""

import duckdb
import pyarrow as pa
import pytest

from collector.store.append import _key, _span_keys

USUAL = ["00f067aa0ba902b7", "ffffffffffffffff", "0000000000000001", "8000000000000000"]


def test_keys_of_spans_are_those_of_the_engine():
    """Through several chunks too."""
    ids = pa.chunked_array([USUAL[:1], USUAL[1:]], pa.string())
    incoming = pa.table({"trace_id": ["a" * 32] * len(ids), "span_id": ids})
    by_engine = duckdb.sql(f"SELECT {_key('spans', ('trace_id', 'span_id'))} AS key FROM incoming").fetchnumpy()["key"]
    assert incoming.num_rows == 4
    assert _span_keys(ids).tolist() == by_engine.tolist() == [int(one, 16) for one in USUAL]


@pytest.mark.parametrize(
    "odd", ["00F067AA0BA902B7", "0f067aa0ba902b7", "00f067aa0ba902b70", "", "00f067aa0ba902bg", "ä0f067aa0ba902b", None]
)
def test_other_ids_are_left_to_the_engine(odd):
    """Which has a key for each of them."""
    assert _span_keys(pa.chunked_array([[USUAL[0], odd]], pa.string())) is None
    (row,) = duckdb.execute(f"SELECT {_key('spans', ('trace_id', 'span_id'))} FROM (SELECT ? AS span_id)", [odd]).fetchall()
    assert isinstance(row[0], int)
