"""A collector in a lake on a real PostgreSQL: what is registered, what is let go, and what stops nothing."""

import json
import os
import subprocess
import sys

import psycopg
import pytest

from collector.lake.dsn import Dsn
from collector.lake.engine import attach
from collector.lake.lake import Lake
from collector.lake.registrar import ID_NAME
from collector.store import publisher as publishing
from collector.store.describe import TABLES_TEXT
from tests.integration.collector.conftest import start
from tests.support.otlp import accepted, log_request, spans
from tests.support.postgres import PROGRAMS, postgres
from tests.support.product import wait_for

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="no PostgreSQL server below /usr/lib/postgresql")
NEVER_MS = 10**9


@pytest.fixture(scope="module")
def server():
    with postgres() as url:
        yield url.replace("+psycopg", "")


@pytest.fixture
def dsn(server, request):
    """A database of the test's own."""
    name = f"lake_{abs(hash(request.node.name)) % 10**9}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres", f"/{name}")


def rows(connection, sql):
    return connection.execute(sql).fetchall()


def ids(connection, column, table):
    return dict(rows(connection, f"SELECT {column}, count(*) FROM {table} GROUP BY 1"))


def post(client, signal, request):
    answer = client.post(
        f"/v1/{signal}", content=request.SerializeToString(), headers={"content-type": "application/x-protobuf"}
    )
    assert answer.status_code == 200


def one(tmp_path, dsn, **settings):
    return start(
        tmp_path, lake_dsn=dsn, lake_path=f"{tmp_path}-lake", lake_ms=NEVER_MS, publish_ms=NEVER_MS, alerts=False, **settings
    )


def test_file_stays_until_the_lake_has_let_go_of_it(tmp_path, dsn, monkeypatch):
    """While the lake is behind, compaction unlinks nothing that it has; behind a round everything superseded goes."""
    monkeypatch.setattr(publishing, "GRACE", publishing.timedelta(0))
    client, parts = one(tmp_path, dsn)
    parts.lake._released._grace_s = 0
    with client:
        for number in range(publishing.FAN_IN):
            post(client, "traces", spans(5))
            if number:
                wait_for(parts.lake.round, 60, "a round")
            assert parts.publisher.round()
        with attach(Dsn(dsn), "test") as lake:
            had = ids(lake, "filename", "segments.spans")
            assert len(had) == publishing.FAN_IN - 1
            assert parts.publisher.round()
            superseded = {str(parts.store.folder.path / one.file) for one, _ in parts.store.segments(superseded=True)}
            assert set(had) < superseded, "they were not compacted: the test has shown nothing"
            assert rows(lake, "SELECT count(*), count(DISTINCT span_id), max(name) FROM spans") == [(45, 45, "span 4")]
            assert parts.lake.round()
            assert parts.publisher.round()
            left = list(parts.store.folder.path.glob("spans-0*"))
            assert ids(lake, "filename", "segments.spans") == {str(path): 50 for path in left}
            assert len(left) == 1
            assert rows(lake, "SELECT count(*), count(DISTINCT span_id), max(name) FROM spans") == [(50, 50, "span 4")]


def test_every_table_of_the_catalog_is_in_the_lake_with_its_columns(tmp_path, dsn):
    """The same names and types with the same SQL."""
    client, parts = one(tmp_path, dsn)
    with client:
        wait_for(lambda: parts.lake.state.rounds, 60, "the lake is made")
        with attach(Dsn(dsn), "test") as lake, parts.store.reading() as live:
            for name in TABLES_TEXT:
                columns = [[row[:2] for row in rows(one, f"DESCRIBE {name}")] for one in (lake, live)]
                assert columns[0] == columns[1], name


def test_old_snapshots_are_forgotten_and_no_segment_is_ducklakes_to_delete(tmp_path, dsn, monkeypatch):
    """The catalog does not grow with every round, and whoever tidies the lake finds no file to unlink."""
    monkeypatch.setattr("collector.lake.lake.KEEP_SNAPSHOTS_S", 0)
    monkeypatch.setattr("collector.lake.lake.EXPIRE_EVERY_S", 0)
    client, parts = one(tmp_path, dsn)
    with client:
        for turn in range(4):  # accepted turns are published as a whole, each time in a new file
            post(client, "logs", log_request(accepted(f"turn-{turn}")))
            parts.publisher.round()
            wait_for(parts.lake.round, 60, "a round")
        with psycopg.connect(dsn) as connection:
            assert rows(connection, "SELECT count(*) FROM lastword_lake.ducklake_snapshot") == [(1,)]
            assert rows(connection, "SELECT count(*) FROM lastword_lake.ducklake_files_scheduled_for_deletion") == [(0,)]
            assert rows(connection, "SELECT count(*) FROM lastword_lake.ducklake_data_file") == [(1,)]
        before = sorted(parts.store.folder.path.iterdir())
        lake = parts.lake._lake._connection
        lake.execute("CALL ducklake_cleanup_old_files('lake', cleanup_all => true)")
        lake.execute("CALL ducklake_merge_adjacent_files('lake')")
        lake.execute("CALL ducklake_delete_orphaned_files('lake', cleanup_all => true)")
        assert sorted(parts.store.folder.path.iterdir()) == before
        assert parts.lake.state.files == 1


def test_connection_that_breaks_in_a_round_costs_nothing(tmp_path, dsn):
    """The next round connects anew and finds out by itself what is still to do."""
    client, parts = one(tmp_path, dsn)
    with client:
        post(client, "traces", spans(5))
        parts.publisher.round()
        wait_for(lambda: parts.lake.round() and parts.lake.state.files, 60, "a round")
        post(client, "traces", spans(5))
        parts.publisher.round()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'lastword-lake-%'"
            )
        assert [parts.lake.round(), parts.lake.round()][1]
        with attach(Dsn(dsn), "test") as lake:
            assert rows(lake, "SELECT count(*) FROM segments.spans") == [(10,)]


def test_folder_of_another_collector_is_not_touched(tmp_path, dsn):
    """Two machines with the same path would take out each other's files: the second is refused until the first has left."""
    client, parts = one(tmp_path, dsn)
    with client:
        post(client, "traces", spans(5))
        parts.publisher.round()
        wait_for(lambda: parts.lake.round() and parts.lake.state.files, 60, "a round")
    (tmp_path / "collector" / ID_NAME).write_text("another")
    client, parts = one(tmp_path, dsn)
    with client:
        wait_for(lambda: parts.lake.state.failures, 60, "a round has failed")
        assert "folder of another collector" in parts.lake.state.last_error
        post(client, "traces", spans(5))  # taken and published as ever
        assert parts.publisher.round()
        gone = Lake(Dsn(dsn), None, folder=parts.store.folder.path)
        assert gone.leave() == 1
        gone.close()
        assert parts.lake.round()
        with attach(Dsn(dsn), "test") as lake:
            assert rows(lake, "SELECT count(*) FROM spans") == [(10,)]


def test_lake_out_of_reach_stops_nothing_and_tells_no_password(tmp_path, caplog):
    """Rows are taken, published and read; the state says what is wrong."""
    client, parts = one(tmp_path, "postgresql://u:geheim@127.0.0.1:1/d")
    with client:
        post(client, "traces", spans(5))
        assert parts.publisher.round()
        wait_for(lambda: parts.lake.state.failures, 60, "a round has failed")
        assert client.post("/v1/sql", json={"sql": "select count(*) from spans"}).json()["rows"] == [[5]]
        metrics = client.get("/metrics").text
    assert "lastword_lake_age_seconds -1" in metrics
    assert "Connection refused" in parts.lake.state.last_error
    assert "geheim" not in parts.lake.state.last_error + caplog.text + metrics
    assert "tried again" in caplog.text


def test_file_without_rows_is_not_added_again_and_again(tmp_path, dsn):
    """Spans without a root make an empty file of roots; a round that finds nothing new changes nothing."""
    client, parts = one(tmp_path, dsn)
    with client:
        post(client, "traces", spans(5))
        parts.publisher.round()
        assert 0 in [segment.rows for segment, _ in parts.store.segments()]
        wait_for(lambda: parts.lake.round() and parts.lake.state.files, 60, "a round")
        again = parts.lake._lake.register(parts.lake._wanted())
    assert (again.added, again.removed) == (0, 0)


def lastword(dsn, folder, *arguments):
    """What a command says, and its status."""
    environment = {**os.environ, "LASTWORD_COLLECTOR_LAKE_DSN": dsn, "LASTWORD_DATA_DIR": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", "lastword.cli.main", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_commands_read_the_lake_and_take_a_collector_out(tmp_path, dsn):
    """`lastword sql --lake` and `lastword lake`: no collector is taken out while it runs, and its store is one without a lake afterwards."""
    dsn = dsn.replace("lastword@", "lastword:geheim@")
    client, parts = one(tmp_path, dsn)
    with client:
        post(client, "traces", spans(5))
        parts.publisher.round()
        wait_for(lambda: parts.lake.round() and parts.lake.state.files, 60, "a round")
        assert lastword(dsn, tmp_path, "sql", "--lake", "--format", "csv", "select count(*) as n from spans") == (0, "n\n5\n")
        status, said = lastword(dsn, tmp_path, "lake", "leave")
        assert (status, "a collector runs" in said) == (2, True)
    status, said = lastword(dsn, tmp_path, "lake", "info", "--json")
    assert status == 0
    assert [(row["folder"], row["files"]) for row in json.loads(said)] == [(str(parts.store.folder.path), 1)]
    status, said = lastword(dsn, tmp_path, "lake", "leave")
    assert (status, "with 1 files" in said) == (0, True)
    assert lastword(dsn, tmp_path, "lake", "info", "--json") == (0, "[]\n")
    assert not (tmp_path / "collector" / ID_NAME).exists()
    status, said = lastword(dsn.replace("/lake_", "/none_"), tmp_path, "sql", "--lake", "select 1")
    assert (status, "does not exist" in said, "geheim" in said) == (2, True, False)
