"""`lastword db`: what it says of a store, the copies that it makes, and what it finds where a store is not whole. With the collector running, and without."""

import json
import shutil

import duckdb
import pytest
from click.testing import CliRunner

from collector.db.__main__ import main
from collector.synthetic.requests import record_request, span_request
from collector.synthetic.turns import synthesize
from lastword.events import TurnContent
from tests.integration.collector.conftest import Collector, start
from tests.integration.collector.process import Program
from tests.support.otlp import accepted, ended, log_request

NEVER_MS = 3_600_000
SUMS = "select (select count(*) from {0}turns), (select sum(hash(t))::varchar from {0}turns t), (select sum(hash(s))::varchar from {0}spans s), (select sum(n) from {0}turn_minutes)"


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    """Stories of a fixed day are kept for ever, and nobody answers where the collector would."""
    for name in ("SPANS", "TURNS", "ROLLUPS", "CONTENT"):
        monkeypatch.setenv(f"LASTWORD_COLLECTOR_{name}_DAYS", "0")
    monkeypatch.setenv("LASTWORD_COLLECTOR_PORT", "1")


def db(folder, *arguments, status=0):
    """What the command prints, at the status that it ends with."""
    shown = CliRunner().invoke(main, ["--data-dir", str(folder), *map(str, arguments)], catch_exceptions=False)
    assert shown.exit_code == status, shown.output
    return shown.output


@pytest.fixture(scope="module")
def made(blank, tmp_path_factory):
    """A store of turns of every kind, in several segments, with content and an open turn. Not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    shutil.copytree(blank, folder, dirs_exist_ok=True)
    client, parts = start(folder, commit_wait_ms=1, publish_ms=NEVER_MS)
    with client:
        collector = Collector(client, parts)
        for seed in (1, 2):
            turns = list(synthesize(60, seed=seed, hours=2))
            assert collector.send("logs", record_request(turns)).status_code == 200
            assert collector.send("traces", span_request(turns)).status_code == 200
            parts.publisher.round()
        collector.send("logs", log_request(accepted("lost"), ended("t1", content=TurnContent(prompt="why?", answer="so"))))
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A store of its own for a test that changes it."""
    made_anew = tmp_path / "data"
    made_anew.mkdir()
    assert "files" in db(made, "backup", made_anew)
    return made_anew


def sums(folder):
    with duckdb.connect(str(folder / "collector" / "catalog.duckdb"), read_only=True) as catalog:
        catalog.execute("set timezone = 'UTC'")
        return catalog.execute(SUMS.format("")).fetchone()


def test_info_says_what_a_store_holds(made):
    """Rows of each table, as text and as JSON; nobody answers, and that is said."""
    told = json.loads(db(made, "info", "--json"))
    rows = {table["table"]: table["rows"] for table in told["tables"]}
    with duckdb.connect(str(made / "collector" / "catalog.duckdb"), read_only=True) as catalog:
        assert rows["spans"] == catalog.execute("select count(*) from store.spans").fetchone()[0] > 500
    assert rows["content"] == 1
    assert told["collectorRuns"] is False
    shown = db(made, "info")
    assert f"{rows['spans']:,}" in shown
    assert "no collector answers" in shown


def test_whole_store_passes_the_check(made):
    """Nothing is wrong, and nothing is changed."""
    files = {path: path.stat().st_size for path in (made / "collector" / "segments").iterdir()}
    assert "the store is whole" in db(made, "check")
    assert {path: path.stat().st_size for path in (made / "collector" / "segments").iterdir()} == files


def segment(folder, table):
    return min((folder / "collector" / "segments").glob(f"{table}-0*.parquet"))


def test_check_finds_a_missing_and_a_broken_segment(folder):
    """Both are named, and that no collector can start on such a store; status 1."""
    missing, broken = segment(folder, "spans"), segment(folder, "ended")
    missing.unlink()
    data = bytearray(broken.read_bytes())
    data[40:-2000] = bytes(len(data) - 2040)
    broken.write_bytes(data)
    shown = db(folder, "check", status=1)
    assert f"{missing.name} is missing\n" in shown
    assert "no collector can start on it" in shown
    assert f"{broken.name} cannot be read" in shown


def test_check_finds_rows_that_stand_twice_and_minutes_that_are_miscounted(folder):
    """A segment whose rows were written again, and a rollup without one of its minutes."""
    segments = folder / "collector" / "segments"
    spans, minutes = segment(folder, "spans"), segment(folder, "turn_minutes")
    other = segments / "other.parquet"
    duckdb.execute(f"copy (from read_parquet('{spans}') union all from read_parquet('{spans}')) to '{other}'")
    other.rename(spans)
    duckdb.execute(
        f"copy (select * from read_parquet('{minutes}') where minute < (select max(minute) from read_parquet('{minutes}'))) to '{other}'"
    )
    other.rename(minutes)
    shown = db(folder, "check", status=1)
    assert "rows of spans stand more than once" in shown
    assert "turn_minutes counts" in shown
    assert f"{spans.name} has " in shown


def test_check_finds_turns_whose_root_span_is_not_noted(folder):
    """A segment of noted roots without its first turn."""
    roots = segment(folder, "turn_roots")
    other = roots.with_name("other.parquet")
    duckdb.execute(
        f"copy (select * from read_parquet('{roots}') where turn_id > (select min(turn_id) from read_parquet('{roots}'))) to '{other}'"
    )
    other.rename(roots)
    assert "turn_roots is wrong about 1 turns" in db(folder, "check", status=1)


def test_export_and_import_carry_everything(made, tmp_path):
    """A store made of an export says the same; importing again adds nothing, nor does the order of exports matter."""
    assert "rows are in" in db(made, "export", tmp_path / "all")
    assert "0 were there already" in db(tmp_path / "other", "import", tmp_path / "all")
    assert "0 rows are new" in db(tmp_path / "other", "import", tmp_path / "all")
    assert sums(tmp_path / "other") == sums(made)
    with duckdb.connect(str(tmp_path / "other" / "collector" / "catalog.duckdb"), read_only=True) as catalog:
        assert catalog.execute("select prompt, answer from turn_content").fetchall() == [("why?", "so")]
        assert catalog.execute("select turn_id from lost_turns where turn_id = 'lost'").fetchall() == [("lost",)]
    assert "the store is whole" in db(tmp_path / "other", "check")


def test_export_of_a_window_and_without_content(made, tmp_path):
    """Only rows of the time, and no text of any answer; an empty window is told."""
    db(made, "export", tmp_path / "part", "--no-content", "--since", "2020-01-01", "--until", "2024-01-01T00:00")
    tables = json.loads((tmp_path / "part" / "manifest.json").read_text())["tables"]
    assert "content" not in tables
    assert tables["ended"]["rows"] == 1
    assert "nothing lies between" in db(
        made, "export", tmp_path / "x", "--since", "2024-01-02", "--until", "2024-01-01", status=2
    )


def test_changed_export_is_refused(made, tmp_path):
    """A file whose bytes are others than the manifest says is named, and nothing is loaded."""
    db(made, "export", tmp_path / "all", "--table", "ended")
    path = tmp_path / "all" / "ended.parquet"
    path.write_bytes(path.read_bytes() + b"x")
    assert "SHA-256" in db(tmp_path / "other", "import", tmp_path / "all", status=2)
    assert "no export" in db(tmp_path / "other", "import", made, status=2)
    assert not (tmp_path / "other").exists()


def test_prune_removes_what_other_days_say(folder):
    """Days of the command line take the place of the settings; turns stay, and the store is whole."""
    assert "nothing is overdue" in db(folder, "prune")
    assert "removed 1 rows" in db(folder, "prune", "--content-days", "1")
    assert "the store is whole" in db(folder, "check")


def test_no_store_and_full_folders_are_told(made, tmp_path):
    """What to do stands in the message, and nothing is made."""
    for command in (("info",), ("check",), ("prune",), ("export", tmp_path / "x"), ("backup", tmp_path / "x")):
        assert "--data-dir" in db(tmp_path / "nothing", *command, status=2)
    assert list(tmp_path.glob("x*")) == []
    for command in ("export", "backup"):
        assert "wants a folder of its own" in db(made, command, made, status=2)


@pytest.mark.slow
def test_everything_beside_a_running_collector(folder, tmp_path, monkeypatch):
    """A backup holds what was acknowledged before it and can be started on; generate goes over OTLP; prune is the collector's; import and other days are refused."""
    program = Program(folder)
    program.start()
    monkeypatch.setenv("LASTWORD_COLLECTOR_PORT", str(program.port))
    try:
        assert "a collector answers" in db(folder, "info")
        assert "200 turns" in db(folder, "generate", "200", "--days", "0.1", "--seed", "5")
        ((turns,),) = program.rows("select count(*) from turns")
        db(folder, "backup", tmp_path / "copy")
        assert db(folder, "export", tmp_path / "all")
        assert "the store is whole" in db(folder, "check")
        assert "nothing is overdue" in db(folder, "prune")
        assert "stop it" in db(folder, "prune", "--spans-days", "1", status=2)
        assert "stop it" in db(folder, "import", tmp_path / "all", status=2)
        monkeypatch.setenv("LASTWORD_COLLECTOR_PORT", "1")
        assert "LASTWORD_COLLECTOR_PORT" in db(folder, "backup", tmp_path / "other", status=2)
    finally:
        program.stop()
    assert turns > 300
    assert sums(tmp_path / "copy")[0] == turns
    assert "the store is whole" in db(tmp_path / "copy", "check")
    restored = Program(tmp_path / "copy")
    restored.start()
    try:
        assert restored.rows("select count(*) from turns") == [[turns]]
    finally:
        restored.stop()
