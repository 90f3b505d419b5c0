"""The lake's views, over plain tables: rows that two collectors stored are one row, and counts are those of the turns."""

import json

import duckdb
import pytest

from collector.lake.views import lake_views
from collector.store.store import Store

AT = "make_timestamptz(1700000000000000 + {}::BIGINT * 1000000)"


@pytest.fixture(scope="module")
def shape(tmp_path_factory):
    """Tables of the columns that segments have, in a file that tests copy."""
    folder = tmp_path_factory.mktemp("store")
    store = Store(folder, memory_limit_mib=256, threads=1, abandoned_grace_ms=0)
    path = folder / "lake.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE SCHEMA segments")
        connection.execute("CREATE SCHEMA store")
        for name in store.columns:
            connection.execute(f"CREATE TABLE segments.{name} AS SELECT * FROM read_parquet('{store.folder.empty(name)}')")
        for statement in lake_views(store.columns, 0):
            connection.execute(statement)
    store.close()
    return path


@pytest.fixture
def lake(shape):
    """The tables, empty again behind the test."""
    with duckdb.connect(str(shape)) as connection:
        connection.begin()
        yield connection
        connection.rollback()


def turn(lake, turn_id, *, ended=10, route="knowledge", origin="record", started=5, deadline="NULL"):
    """A turn in a collector's segments, and in its counts."""
    lake.execute(
        "INSERT INTO segments.ended BY NAME SELECT "
        f"'{turn_id}' AS turn_id, '{turn_id}' AS trace_id, {AT.format(started)} AS started_at, {AT.format(ended)} AS ended_at, "
        f"'done' AS terminal, '{origin}' AS origin, '{route}' AS route, 'answered' AS completion_status, false AS \"partial\", {deadline} AS deadline_ms, "
        "100 AS total_ms, 7 AS input_tokens"
    )
    lake.execute(
        "INSERT INTO segments.turn_minutes BY NAME SELECT "
        f"date_trunc('minute', {AT.format(ended)}) AS minute, '{route}' AS route, 'answered' AS status, 1 AS n, 0 AS partials, 0 AS broken, "
        "0 AS client_left, 0 AS tools, 0 AS tools_with_results, 0 AS sources, 0 AS without_source, 7 AS input_tokens, 0 AS output_tokens, 7 AS tokens"
    )
    lake.execute(
        "INSERT INTO segments.stage_minutes BY NAME SELECT "
        f"date_trunc('minute', {AT.format(ended)}) AS minute, '{route}' AS route, 'total' AS stage, 53 AS bucket, 1 AS n"
    )


def test_record_that_two_collectors_stored_is_one_turn(lake):
    """The sender whose collector died sent it to another; the copy that knows more stays."""
    turn(lake, "a")
    turn(lake, "a", deadline="1000")
    turn(lake, "b", ended=11)
    assert lake.execute("SELECT turn_id, deadline_ms FROM turns ORDER BY 1").fetchall() == [("a", 1000), ("b", None)]


def test_counts_are_those_of_turns(lake):
    """Each collector counted its copy; what is counted twice is taken off, in both rollups and in what is made of them."""
    for _ in range(3):
        turn(lake, "a")
    turn(lake, "b", ended=11)
    turn(lake, "c", ended=11, route="smalltalk")
    turn(lake, "c", ended=11, route="smalltalk")
    assert lake.execute("SELECT route, n, tokens FROM turn_minutes ORDER BY 1").fetchall() == [
        ("knowledge", 2, 14),
        ("smalltalk", 1, 7),
    ]
    assert lake.execute("SELECT route, n FROM stage_minutes WHERE stage = 'total' ORDER BY 1").fetchall() == [
        ("knowledge", 2),
        ("smalltalk", 1),
    ]
    assert lake.execute("SELECT sum(turns) FROM partial_rate_per_minute").fetchall() == [(3,)]


def test_turn_of_spans_is_the_longest_that_was_made_of_its_trace(lake):
    """Each collector saw a part of the trace."""
    turn(lake, "t", origin="spans", ended=9)
    turn(lake, "t", origin="spans", ended=12, route="whole")
    assert lake.execute("SELECT turn_id, route FROM turns").fetchall() == [("t", "whole")]
    assert lake.execute("SELECT route, n FROM turn_minutes").fetchall() == [("whole", 1)]


def test_turn_that_ended_at_another_collector_is_not_lost(lake):
    """Its acceptance stays where it was sent; that it ended is known in the lake."""
    turn(lake, "a")
    for turn_id in ("a", "a", "gone", "gone"):
        lake.execute(
            f"INSERT INTO segments.accepted BY NAME SELECT '{turn_id}' AS turn_id, {AT.format(5)} AS started_at, 1000 AS deadline_ms"
        )
    assert lake.execute("SELECT turn_id FROM lost_turns").fetchall() == [("gone",)]
    assert lake.execute("SELECT turn_id, terminal FROM turns ORDER BY 1").fetchall() == [("a", "done"), ("gone", "abandoned")]
    assert lake.execute("SELECT sum(n) FROM turn_minutes").fetchall() == [(2,)]


@pytest.mark.parametrize(
    ("table", "view", "row"),
    [
        ("spans", "spans", "'t' AS trace_id, 's' AS span_id, {at} AS started_at, 0 AS start_rest_ns, 5 AS duration_ns"),
        ("content", "turn_content", "'a' AS turn_id, {at} AS ended_at, 'hello' AS prompt"),
        ("violations", "violations", "'a' AS turn_id, 't' AS trace_id, {at} AS ended_at, 'twice' AS rule"),
    ],
)
def test_row_that_two_collectors_stored_is_one(lake, table, view, row):
    """Spans, content and violations alike; another time is another row."""
    for at in (1, 1, 2):
        lake.execute(f"INSERT INTO segments.{table} BY NAME SELECT {row.format(at=AT.format(at))}")
    assert lake.execute(f"SELECT count(*) FROM {view}").fetchall() == [(2,)]


@pytest.mark.parametrize("view", ["spans WHERE started_at", "turns WHERE ended_at", "turns WHERE started_at"])
def test_range_of_time_is_read_alone(lake, view):
    """The condition stands below the window that looks for copies: a query of an hour does not read a year."""
    for ended in (10, 100_000_000):  # so that statistics alone do not tell that there is nothing
        turn(lake, str(ended), ended=ended, started=ended - 5)
        lake.execute(f"INSERT INTO segments.spans BY NAME SELECT 's' AS span_id, {AT.format(ended)} AS started_at")
    plan = json.loads(lake.execute(f"EXPLAIN (FORMAT json) SELECT count(*) FROM {view} > '2026-01-01'").fetchall()[0][1])
    column = view.split()[-1]
    assert [scan for scan in scans(plan) if column in str(scan.get("Filters", ""))]


def scans(nodes):
    """What every scan of a plan says of itself."""
    for node in nodes:
        if "SCAN" in node["name"]:
            yield node["extra_info"]
        yield from scans(node["children"])
