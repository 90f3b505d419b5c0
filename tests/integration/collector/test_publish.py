"""Publishing: what landed becomes segments and stays the same to whoever asks; a crash between any two steps loses nothing and doubles nothing."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from collector.db import opening
from collector.store import migrations
from collector.store.catalog import Catalog
from collector.store.publisher import FAN_IN, GRACE
from collector.store.store import Store
from collector.synthetic.requests import record_request, span_request
from collector.synthetic.turns import synthesize
from lastword.events import CompletionStatus, Reason
from tests.integration.collector.conftest import Collector, start
from tests.support.otlp import accepted, ended, log_request, spans
from tests.support.product import ROOT

NEVER_MS = 3_600_000
TABLES = (
    "spans",
    "turns",
    "open_turns",
    "turn_stages",
    "turn_tools",
    "turn_sources",
    "turn_attempts",
    "turn_minutes",
    "stage_minutes",
)
VIEWS = (*TABLES, "violations", "partial_rate_per_minute", "stage_latency", "tools_with_results", "source_counts", "lost_turns")


@pytest.fixture
def quiet(tmp_path):
    """A collector that publishes only when a test says so."""
    client, parts = start(tmp_path, commit_wait_ms=1, publish_ms=NEVER_MS)
    with client:
        yield Collector(client, parts)


def send(collector, turns):
    assert collector.send("logs", record_request(turns)).status_code == 200
    assert collector.send("traces", span_request(turns)).status_code == 200


def full(*_arguments):
    raise OSError(28, "No space left on device")


def everything(collector, names=TABLES):
    """All rows of the tables, sorted."""
    return {name: sorted(map(str, collector.rows(f"select * from {name}"))) for name in names}


def catalog(collector):
    return duckdb.connect(str(collector.parts.settings.store_path / "catalog.duckdb"), read_only=True)


def test_what_is_published_reads_as_it_landed(quiet):
    """Every table says the same before and after its rows became segments, and the hot file is empty then."""
    send(quiet, list(synthesize(120, seed=1, hours=2)))
    before = everything(quiet)
    assert all(before[name] for name in TABLES if name != "open_turns")
    assert quiet.parts.store.hot_rows > 0
    assert quiet.parts.publisher.round()
    assert quiet.parts.store.hot_rows == 0
    assert everything(quiet) == before


def test_catalog_says_what_the_collector_says(quiet):
    """The catalog is opened by another DuckDB while the collector holds the hot file, and has the same rows under the same names."""
    send(quiet, list(synthesize(60, seed=2, hours=2)))
    quiet.parts.publisher.round()
    with catalog(quiet) as other:
        other.execute("set timezone = 'UTC'")
        for name in VIEWS:
            live = quiet.rows(f"select count(*), sum(hash(t)::hugeint)::varchar from {name} t")
            assert [
                list(row) for row in other.execute(f"select count(*), sum(hash(t)::hugeint)::varchar from {name} t").fetchall()
            ] == live, name


def test_rollups_are_what_the_turns_are(quiet):
    """The rollups by the minute equal the same counts over the turns, over several segments of one minute, compacted, and with what has not been published."""
    turns = list(synthesize(300, seed=3, hours=0.2))
    for n in range(0, 250, 25):
        send(quiet, turns[n : n + 25])
        quiet.parts.publisher.round()
    send(quiet, turns[250:])
    quiet.send("logs", log_request(accepted("lost")))
    levels = {segment.level for segment, _ in quiet.parts.store.segments()}
    assert 1 in levels
    raw = quiet.rows(
        "select date_trunc('minute', ended_at), route, model_tier, model, coalesce(completion_status, terminal), reason, count(*), "
        "count(*) filter (broken), sum(tool_calls_count), sum(sources_count), sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)) from turns group by all"
    )
    rolled = quiet.rows(
        "select minute, route, tier, model, status, reason, n, broken, tools, sources, tokens from turn_minutes"
    )
    assert sorted(map(str, rolled)) == sorted(map(str, raw))
    assert (
        sum(row[6] for row in rolled)
        == sum(turn.done is not None for turn in turns) + quiet.rows("select count(*) from lost_turns")[0][0]
    )
    raw = quiet.rows(
        "select date_trunc('minute', ended_at), stage, if(ms < 1, -1, floor(8 * log2(ms)))::int, count(*) from turn_stages where stage <> 'unaccounted' group by all"
    )
    rolled = quiet.rows(
        "select minute, stage, bucket, sum(n) from stage_minutes where stage not in ('total', 'firstToken') group by all"
    )
    assert sorted(map(str, rolled)) == sorted(map(str, raw))


def test_quantiles_of_buckets_are_near(quiet):
    """A quantile from the rollup lies within half a bucket of the true one, which is 4.4 percent."""
    send(quiet, list(synthesize(400, seed=4, hours=0.05)))
    pairs = quiet.rows(
        "select l.p50_ms, l.p95_ms, t.p50, t.p95 from stage_latency l join (select date_trunc('minute', ended_at) as minute, route, stage, "
        "quantile_disc(ms, 0.5) as p50, quantile_disc(ms, 0.95) as p95 from turn_stages group by all) t using (minute, route, stage) where t.p50 > 0"
    )
    assert len(pairs) > 20
    for p50, p95, true50, true95 in pairs:
        assert abs(p50 / true50 - 1) < 0.0443
        assert abs(p95 / true95 - 1) < 0.0443


def test_small_segments_are_compacted_and_old_files_go(quiet):
    """Ten segments become one with the same rows; the old files stay for their grace, then they are gone."""
    publisher, folder = quiet.parts.publisher, quiet.parts.store.folder.path
    for n in range(FAN_IN):
        quiet.send("traces", spans(5, start_ns=1_700_000_000_000_000_000 + n * 60_000_000_000))
        publisher.round()
    mine = [segment for segment, _ in quiet.parts.store.segments() if segment.table == "spans"]
    assert [(segment.level, segment.rows) for segment in mine] == [(1, 5 * FAN_IN)]
    assert quiet.rows("select count(*), count(distinct span_id) from spans") == [[5 * FAN_IN, 5 * FAN_IN]]
    assert len(list(folder.glob("spans-0*.parquet"))) == FAN_IN + 1
    publisher._clock = lambda: datetime.now(UTC) + GRACE + timedelta(seconds=1)
    publisher.round()
    assert [path.name for path in folder.glob("spans-0*.parquet")] == [mine[0].file]


def test_resent_after_publication_is_stored_once(tmp_path):
    """What is in a segment is found there: by its key in memory, on disk where memory does not reach, and after a restart."""
    trace, logs = spans(50), log_request(accepted("t1"), ended("t1"))
    later = spans(50, start_ns=1_700_000_100_000_000_000)
    for _ in range(2):
        client, parts = start(tmp_path, commit_wait_ms=1, publish_ms=NEVER_MS, dedup_keys=10)
        with client:
            collector = Collector(client, parts)
            for _ in range(2):
                for signal, request in (("traces", trace), ("traces", later), ("logs", logs)):
                    assert collector.send(signal, request).status_code == 200
                parts.publisher.round()
            assert collector.rows("select count(*), count(distinct span_id) from spans") == [[100, 100]]
            assert collector.rows("select count(*) from turns") == [[1]]
            assert collector.rows("select count(*) from open_turns") == [[0]]


def test_late_terminal_corrects_an_abandoned_turn(tmp_path):
    """Rates count an abandoned turn as broken until its terminal comes, however late; then as what it was. An acceptance that comes last opens nothing."""
    client, parts = start(tmp_path, commit_wait_ms=1, publish_ms=NEVER_MS, abandoned_grace_ms=0)
    with client:
        collector = Collector(client, parts)
        counts = "select status, n, broken from turn_minutes"
        collector.send("logs", log_request(accepted("t1")))
        parts.publisher.round()
        assert collector.rows(counts) == [["abandoned", 1, 1]]
        collector.send("logs", log_request(ended("t1")))
        assert collector.rows(counts) == [["success", 1, 0]]
        assert collector.rows("select deadline_ms from turns") == [[1000]]
        parts.publisher.round()
        collector.send("logs", log_request(accepted("t1")))
        assert collector.rows(counts) == [["success", 1, 0]]
        with catalog(collector) as other:
            assert other.execute(counts).fetchall() == [("success", 1, 0)]


def test_people_who_left_are_no_fault_in_the_rollup(quiet):
    """The paged rate counts what broke on our side of the wire."""
    left = {"completion_status": CompletionStatus.CANCELLED, "partial": True, "reason": Reason.CLIENT_CANCELLED}
    quiet.send("logs", log_request(ended("left", **left), ended("failed", failed=True)))
    assert quiet.rows("select sum(n), sum(partials), sum(broken), sum(client_left) from turn_minutes") == [[2, 1, 1, 1]]


CRASH = """
import os, sys
from collector.app import Parts
from collector.settings import CollectorSettings
from collector.store.publisher import Publisher
from collector.store.segments import Folder
from collector.store.store import Store
from collector.writer import Rows
from tests.support.otlp import spans
from collector.receive.attributes import AttributeLimits, Memo
from collector.receive.spans import READ, span_rows
import threading

folder, step = sys.argv[1:]
parts = Parts(CollectorSettings(data_dir=folder, publish_ms=3_600_000, commit_wait_ms=0, spans_days=0))
for n in range(2):
    committed = threading.Event()
    rows, _ = span_rows(spans(40), Memo(AttributeLimits(10, 100), READ))
    parts.writer.submit(Rows(spans=rows), lambda error: committed.set())
    assert committed.wait(20)
    if n == 0:
        parts.publisher.round()

def after(owner, name):
    method = getattr(owner, name)
    def dies(*arguments, **named):
        method(*arguments, **named)
        os.kill(os.getpid(), 9)
    setattr(owner, name, dies)

if step == "copying":
    Folder.write = lambda self, connection, query, target, table: (target.with_name(target.name + ".unfinished").write_bytes(b"half"), os.kill(os.getpid(), 9))
elif step == "copied":
    after(Folder, "write")
elif step == "rotated":
    after(Store, "rotate")
elif step == "adopted":
    after(Store, "adopt")
elif step == "catalog":
    import collector.store.catalog as catalog
    catalog.sync_file = lambda path: os.kill(os.getpid(), 9)
parts.publisher.round()
"""


@pytest.mark.parametrize("step", ["rotated", "copying", "copied", "adopted", "catalog"])
def test_crash_between_two_steps_of_publishing_is_harmless(tmp_path, step):
    """Killed at each step: after the next start every span is there once, live and in the catalog, and no stray file is left."""
    done = subprocess.run([sys.executable, "-c", CRASH, str(tmp_path), step], cwd=ROOT, timeout=100, check=False)
    assert done.returncode == -9
    client, parts = start(tmp_path, publish_ms=NEVER_MS)
    with client:
        collector = Collector(client, parts)
        assert collector.rows("select count(*), count(distinct span_id) from spans") == [[80, 80]]
        while parts.store.hot_rows:
            assert parts.publisher.round()
        with catalog(collector) as other:
            assert other.execute("select count(*), count(distinct span_id) from spans").fetchall() == [(80, 80)]
        recorded = {segment.file for late in (False, True) for segment, _ in parts.store.segments(superseded=late)}
        files = {path.name for path in parts.store.folder.path.iterdir() if "-empty" not in path.name}
        assert files == recorded


def test_failed_publication_is_told_and_loses_nothing(quiet, monkeypatch):
    """A folder that cannot be written: said on /metrics, rows stay where they are and are readable, and the next round mends it."""
    send(quiet, list(synthesize(20, seed=5, hours=1)))
    before = everything(quiet)
    monkeypatch.setattr(quiet.parts.store.folder, "write", full)
    assert not quiet.parts.publisher.round()
    assert "lastword_publish_failures 1.0" in quiet.http.get("/metrics").text
    assert "No space left" in quiet.parts.publisher.state.last_error
    send(quiet, list(synthesize(20, seed=6, hours=1)))
    monkeypatch.undo()
    assert quiet.parts.publisher.round()
    assert quiet.parts.publisher.round()
    assert quiet.parts.store.hot_rows == 0
    assert set(before["spans"]) < set(everything(quiet)["spans"])


def test_failed_publication_leaves_no_files_and_keeps_nothing_from_making_room(quiet, monkeypatch):
    """Nothing can be published any more: what is superseded goes all the same, what a failed round wrote goes with the next, and the catalog follows what counts."""
    publisher, store = quiet.parts.publisher, quiet.parts.store
    for n in range(FAN_IN):
        quiet.send("traces", spans(5, start_ns=1_700_000_000_000_000_000 + n * 60_000_000_000))
        publisher.round()
    assert len(list(store.folder.path.glob("spans-0*.parquet"))) == FAN_IN + 1
    quiet.send("traces", spans(7))
    with monkeypatch.context() as patch:
        patch.setattr(store, "adopt", full)
        patch.setattr(publisher, "_clock", lambda: datetime.now(UTC) + GRACE + timedelta(seconds=1))
        for _ in range(3):
            assert not publisher.round()
        assert len(list(store.folder.path.glob("spans-0*.parquet"))) <= 2  # the merged one, and that of the last round
    with monkeypatch.context() as patch:
        patch.setattr(publisher._catalog, "write", full)
        assert not publisher.round()
        assert "No space left" in publisher.state.last_error
    assert publisher.round()
    with catalog(quiet) as other:
        assert other.execute("select count(*) from spans").fetchall() == [(5 * FAN_IN + 7,)]
    assert len(list(store.folder.path.glob("spans-0*.parquet"))) == 2


def test_store_whose_catalog_stayed_behind_is_published_before_it_is_copied(tmp_path, monkeypatch):
    """The catalog had no room at the end of a collector and has none at the start: the command says so, and does not copy what it says."""
    client, parts = start(tmp_path, commit_wait_ms=1, publish_ms=NEVER_MS)
    settings = parts.settings
    with client:
        assert Collector(client, parts).send("traces", spans(7)).status_code == 200
        monkeypatch.setattr(Catalog, "write", full)
    with opening.whole(settings) as held, pytest.raises(opening.Unusable, match="No space left"):
        held.publish()
    monkeypatch.undo()
    with opening.whole(settings) as held:
        held.publish()
    with duckdb.connect(str(settings.store_path / "catalog.duckdb"), read_only=True) as other:
        assert other.execute("select count(*) from spans").fetchall() == [(7,)]


def test_rows_beyond_what_may_wait_for_publication_are_503(tmp_path):
    """A collector that cannot publish refuses before its hot file grows without bound."""
    client, parts = start(tmp_path, commit_wait_ms=1, publish_ms=NEVER_MS, hot_rows=60)
    with client:
        collector = Collector(client, parts)
        assert [collector.send("traces", spans(50)).status_code for _ in range(3)] == [200, 200, 503]
        parts.publisher.round()
        assert collector.send("traces", spans(50)).status_code == 200


def test_store_of_version_1_is_brought_forward(tmp_path):
    """The one file of before becomes hot file and segments; nothing is lost, and turns that ended are no longer accepted ones."""
    folder = tmp_path / "old" / "collector"
    folder.mkdir(parents=True)
    with duckdb.connect(str(folder / migrations.OLD_NAME)) as old:
        old.execute(
            "create schema store; create table store.meta (key varchar, value varchar); insert into store.meta values ('schema_version', '1')"
        )
        old.execute(
            "create table store.accepted as select id as turn_id, 'b' as trace_id, 'c' as span_id, 'd' as conversation_id, 1700000000000000000 as started_ns, "
            "1000 as deadline_ms, 's' as service_name, '1' as service_version, 'i' as service_instance, 'turn/1.0' as contract from (values ('t1'), ('t2')) v(id)"
        )
        old.execute(
            "create table store.ended as select 't1' as turn_id, 1700000000000000000 as started_ns, 1700000001000000000 as ended_ns, 'done' as terminal, "
            "'success' as completion_status, false as partial, '[\"https://a\"]' as sources, 1 as sources_count, 60 as total_ms"
        )
        old.execute(
            "create table store.spans as select 't' as trace_id, 's' as span_id, 1700000000000000000 as start_ns, 5000000 as duration_ns, '{}' as attributes"
        )
        old.execute(
            "create table store.content as select 't1' as turn_id, 1700000001000000000 as ended_ns, 'p' as prompt, 'a' as answer"
        )
        old.execute("create view turns as select * from store.ended")
    client, parts = start(tmp_path / "old", publish_ms=NEVER_MS)
    with client:
        collector = Collector(client, parts)
        for _ in range(2):
            assert collector.rows("select turn_id, terminal, deadline_ms, sources from turns order by 1") == [
                ["t1", "done", 1000, ["https://a"]],
                ["t2", "abandoned", 1000, []],
            ]
            assert collector.rows("select duration_ms from spans") == [[5]]
            assert collector.rows("select prompt from turn_content") == [["p"]]
            parts.publisher.round()


def test_new_column_is_added_to_an_existing_store(tmp_path):
    """A collector that knows a column more opens an older store, its segments included; the column is null there."""
    options = {"memory_limit_mib": 256, "threads": 1, "abandoned_grace_ms": 0}
    client, parts = start(tmp_path, publish_ms=NEVER_MS)
    with client:
        collector = Collector(client, parts)
        collector.send("traces", spans(3))
        parts.publisher.round()
        collector.send("traces", spans(2))
    with duckdb.connect(str(tmp_path / "collector" / "hot.duckdb")) as older:
        for generation in "ab":
            older.execute(f"alter table landing.spans_{generation} drop column links")
        older.execute("delete from store.meta where key = 'views'")
    segment = next((tmp_path / "collector" / "segments").glob("spans-0*.parquet"))
    with duckdb.connect() as engine:
        engine.execute(f"copy (select * exclude (links) from '{segment}') to '{segment}.new' (format parquet)")
    segment.with_name(segment.name + ".new").rename(segment)
    store = Store(tmp_path / "collector", **options)
    with store.reading() as reader:
        assert reader.execute("select count(*), count(links) from spans").fetchone()[0] == 5
    store.close()
