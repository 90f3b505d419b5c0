"""The SQL surface: reads everything, changes nothing, harms nobody."""

import io
import re
import threading
import time
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet
import pytest

from collector.sql.surface import Query, QueryError, run_on
from collector.store.describe import TABLES_TEXT
from collector.synthetic.requests import record_request, span_request
from collector.synthetic.turns import synthesize
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


@pytest.mark.parametrize("view", TABLES_TEXT)
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


QUESTIONS = re.findall(r"^(\d+)\. .*?```sql\n(.*?)```", (DOCS / "sql.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A collector with a few hundred turns of every kind, partly published."""
    client, parts = start(tmp_path_factory.mktemp("world"), commit_wait_ms=1, publish_ms=3_600_000)
    with client:
        collector = Collector(client, parts)
        collector.send("logs", log_request(accepted("lost")))
        turns = list(synthesize(900, seed=11, hours=0.9))
        for some in (turns[:600], turns[600:]):
            collector.send("logs", record_request(some))
            collector.send("traces", span_request(some))
            if some[0] is turns[0]:
                parts.publisher.round()
        yield collector


def test_there_are_twenty_questions():
    """Numbered without a gap."""
    assert [number for number, _ in QUESTIONS] == [str(n) for n in range(1, 21)]


@pytest.mark.parametrize(("number", "sql"), QUESTIONS)
def test_worked_question_of_the_docs_has_an_answer(world, number, sql):
    """What the documentation shows can be pasted, and says something of real turns."""
    response = world.query(sql)
    assert response.status_code == 200, response.text
    assert response.json()["rows"]


def test_every_column_is_described_in_the_database(world):
    """The words of the documentation stand beside the columns, live and in the catalog."""
    comments = "select table_name, column_name, comment from duckdb_columns() where schema_name = 'main' and comment is not null order by all"
    live = world.rows(comments)
    assert len(live) > 150
    with duckdb.connect(str(world.parts.settings.store_path / "catalog.duckdb"), read_only=True) as catalog:
        assert [list(row) for row in catalog.execute(comments).fetchall()] == live


def test_result_beyond_the_limit_of_bytes_is_413(tmp_path):
    """A few rows can be large: they are counted, not collected without bound."""
    client, parts = start(tmp_path, sql_max_bytes=1_000_000)
    with client:
        collector = Collector(client, parts)
        response = collector.query("select repeat('x', 100000) from range(1000)")
        assert response.status_code == 413
        assert "larger than 1000000 bytes" in response.json()["detail"]
        assert collector.rows("select 1") == [[1]]


def test_query_beyond_the_memory_limit_fails_alone(tmp_path):
    """A query that wants more memory than there is gets an error; receiving goes on."""
    client, parts = start(tmp_path, memory_limit_mib=128)
    with client:
        collector = Collector(client, parts)
        response = collector.query("select list(repeat(i::varchar, 1000)) from range(1000000) t(i)", timeoutMs=20_000)
        assert response.status_code == 400
        assert "memory" in response.text.lower()
        assert collector.send("traces", spans(10)).status_code == 200
        assert collector.rows("select count(*) from spans") == [[10]]


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


@pytest.mark.parametrize("kind", ["json", "csv", "arrow", "parquet"])
def test_runaway_query_that_gives_rows_ends_at_its_time_limit(filled, kind):
    """A result that begins to come and never ends, and is not too large either."""
    sql = "select range from range(100000000000) where range < 300000 or hash(range) % 1000000007 = 1"
    response = filled.query(sql, timeoutMs=500, maxRows=1_000_000, format=kind)
    assert (response.status_code, response.json()["title"]) == (408, "Request Timeout")
    assert filled.rows("select 1") == [[1]]


def test_interruption_that_comes_too_early_comes_again(filled):
    """A time limit that ends while the query is still being prepared ends the query all the same: the engine forgets an interruption of what does not run yet."""
    cursor = filled.parts.store.cursor()

    class Slow:
        """A connection that takes longer to prepare a query than the query may take."""

        interrupt = cursor.interrupt

        def execute(self, *arguments):
            time.sleep(0.2)
            return cursor.execute(*arguments)

    with pytest.raises(QueryError) as caught:
        run_on(Slow(), Query(sql="select count(*) from range(1000000) a, range(1000000) b", timeout_ms=50))
    cursor.close()
    assert caught.value.status == 408


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
