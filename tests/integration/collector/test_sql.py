"""The SQL surface: reads everything, changes nothing, harms nobody."""

import io
import re
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.integration.collector.conftest import Collector, start
from tests.support.otlp import accepted, ended, log_request, spans

DOCS = Path(__file__).resolve().parents[3] / "docs"
FORBIDDEN = [
    "insert into store.meta values ('a', 'b')",
    "update store.ended set route = 'x'",
    "delete from store.spans",
    "drop table store.spans",
    "create table t (a int)",
    "create temp table t (a int)",
    "copy store.spans to '/tmp/x.csv'",
    "attach '/tmp/x.duckdb'",
    "set threads = 1",
    "set variable a = 1",
    "install httpfs",
    "load json",
    "call pragma_version()",
    "checkpoint",
    "commit",
    "export database '/tmp/x'",
    "select * from read_text('/etc/passwd')",
    "select * from read_csv('/etc/passwd')",
    "select * from read_blob('/etc/hosts')",
    "select * from glob('/*')",
    "select * from '/etc/passwd'",
    "select * from sniff_csv('/etc/passwd')",
    "select getenv('HOME')",
    "with x as (insert into store.meta values ('a','b') returning key) select * from x",
    "select 1; select 2",
    "select * from parts",
    "explain analyze copy (select 1) to '{segments}/x.parquet'",
    "/* */ EXPLAIN /* */ (ANALYZE, FORMAT json) COPY (select 1) TO '{segments}/x.parquet'",
    "explain analyze insert into store.meta values ('a', 'b')",
    "explain analyze create table t (a int)",
    "copy (select 1) to '{segments}/x.parquet'",
    "select * from read_parquet('{segments}/../hot.duckdb')",
    "select * from read_blob('{segments}/../hot.duckdb')",
    "select * from \"READ_BLOB\" /* */ ('{segments}/../hot.duckdb')",
    "select * from main.read_text('{segments}/../hot.duckdb')",
    "select * from glob('{segments}/*')",
    "select * from '{segments}/../../etc/passwd'",
    "",
]


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """One collector for all tests that only read."""
    client, parts = start(tmp_path_factory.mktemp("filled"), commit_wait_ms=1)
    with client:
        collector = Collector(client, parts)
        collector.send("traces", spans(20))
        collector.send("logs", log_request(accepted("t1"), ended("t1"), ended("t2"), ended("t3", failed=True)))
        yield collector


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_nothing_can_be_written_or_read_that_should_not(filled, sql):
    """Writes, files, settings, several statements: refused with a problem that says why, and nothing changed."""
    before = filled.rows("select (select count(*) from store.spans), (select count(*) from store.meta)")
    segments = filled.parts.store.folder.path
    response = filled.query(sql.replace("{segments}", str(segments)))
    assert response.status_code in (400, 403), response.text[:500]
    assert not (segments / "x.parquet").exists()
    assert response.headers["content-type"].startswith("application/problem+json")
    assert "root:" not in response.text
    assert filled.rows("select (select count(*) from store.spans), (select count(*) from store.meta)") == before


@pytest.mark.parametrize(
    "sql",
    [
        "explain select 1",
        "explain analyze from turns",
        "EXPLAIN (FORMAT json) select 1",
        "explain (select 1)",
        "explain (analyze) (select 1)",
    ],
)
def test_queries_can_be_explained(filled, sql):
    """A query may be explained in every way that the engine knows."""
    assert filled.query(sql).status_code == 200


VIEWS = [
    "turns",
    "open_turns",
    "turn_stages",
    "turn_tools",
    "turn_sources",
    "turn_attempts",
    "turn_content",
    "spans",
    "violations",
    "turn_minutes",
    "stage_minutes",
    "partial_rate_per_minute",
]
VIEWS += ["stage_latency", "tools_with_results", "source_counts", "slowest_turns", "lost_turns"]


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("fmt", ["json", "csv", "arrow", "parquet"])
def test_every_view_reads_in_every_format(filled, view, fmt):
    """Each documented table and view can be queried, empty or not, and is described in the docs."""
    response = filled.query(f"select * from {view}", format=fmt)
    assert response.status_code == 200, response.text
    if fmt == "arrow":
        assert pa.ipc.open_stream(response.content).schema.names
    if fmt == "parquet":
        assert pa.parquet.read_table(io.BytesIO(response.content)).schema.names
    assert f"| `{view}` |" in (DOCS / "sql.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("sql", re.findall(r"```sql\n(.*?)```", (DOCS / "sql.md").read_text(encoding="utf-8"), re.DOTALL))
def test_worked_question_of_the_docs_runs(filled, sql):
    """What the documentation shows can be pasted."""
    assert filled.query(sql).status_code == 200


def test_stages_of_a_turn_sum_to_its_total(filled):
    """With the unaccounted rest, the stages are the whole."""
    assert filled.rows(
        "select sum(ms), any_value(total_ms) from turn_stages join turns using (turn_id) where turn_id = 't1'"
    ) == [[60, 60]]


def test_parameters_are_bound_by_place_and_by_name(filled):
    """Values never become SQL."""
    assert filled.rows("select count(*) from turns where turn_id = ?", "t1' or '1'='1") == [[0]]
    response = filled.query("select count(*) from turns where turn_id = $id")
    assert response.status_code == 400
    named = filled.http.post("/v1/sql", json={"sql": "select count(*) from turns where turn_id = $id", "params": {"id": "t1"}})
    assert named.json()["rows"] == [[1]]


def test_rows_beyond_the_limit_are_cut_and_said(filled):
    """A cut result says so, in its body and in a header."""
    response = filled.query("select * from range(100000)", maxRows=10)
    assert (len(response.json()["rows"]), response.json()["truncated"], response.headers["lastword-truncated"]) == (
        10,
        True,
        "true",
    )


def test_runaway_query_ends_at_its_time_limit(filled):
    """A cross join without end is interrupted, and its place is free again."""
    start_s = time.monotonic()
    response = filled.query("select count(*) from range(1000000) a, range(1000000) b", timeoutMs=300)
    assert response.status_code == 408
    assert time.monotonic() - start_s < 5
    assert filled.rows("select 1") == [[1]]


def test_reading_goes_on_while_rows_are_written(collector):
    """Readers see what was committed when they began, while the writer commits."""
    stop = threading.Event()
    failures = []

    def read():
        while not stop.is_set():
            response = collector.query("select count(*), count(distinct span_id) from spans")
            if response.status_code != 200 or len(set(response.json()["rows"][0])) != 1:
                failures.append(response.text)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(30):
        assert collector.send("traces", spans(50)).status_code == 200
    stop.set()
    reader.join(20)
    assert failures == []
    assert collector.rows("select count(*) from spans") == [[1500]]


def test_queries_beyond_the_waiting_room_are_503(tmp_path):
    """Too many at a time: the rest is told to come back."""
    client, parts = start(tmp_path, sql_concurrency=1, sql_waiting=1)
    with client:
        collector = Collector(client, parts)
        from concurrent.futures import ThreadPoolExecutor

        slow = "select count(*) from range(100000) a, range(100000) b"
        with ThreadPoolExecutor(5) as pool:
            codes = sorted(answer.status_code for answer in pool.map(lambda _: collector.query(slow, timeoutMs=500), range(5)))
    assert codes == [408, 408, 503, 503, 503]


def test_status_tells_how_fresh_the_store_is(filled):
    """Counts, age and lag, for the dashboard's badge."""
    status = filled.http.get("/v1/status").json()
    assert (status["turns"], status["spans"], status["queueDepth"]) == (3, 20, 0)
    assert status["newestEndedAgeMs"] > 0
