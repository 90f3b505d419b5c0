"""The catalog: any DuckDB reads it at any time, while the collector writes, and `lastword sql` reads both."""

import csv
import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import nbformat
import pyarrow.parquet
import pytest
from nbclient import NotebookClient

from collector.synthetic.turns import synthesize
from tests.integration.collector.process import Program
from tests.support.product import ROOT, wait_for
from tests.support.synthetic import post

NOTEBOOK = ROOT / "docs" / "examples" / "turns.ipynb"
READS = 15


@pytest.fixture(scope="module")
def writing(tmp_path_factory):
    """A collector that gets turns all the time, and the folder of its data."""
    folder = tmp_path_factory.mktemp("writing")
    program = Program(folder, LASTWORD_COLLECTOR_PUBLISH_MS="100")
    program.start()
    post(program.url, list(synthesize(200, seed=1, hours=1)))
    stop = threading.Event()

    def write():
        for seed in range(2, 1000):
            if stop.wait(0.05):
                return
            post(program.url, list(synthesize(20, seed=seed, hours=1)))

    writer = threading.Thread(target=write)
    writer.start()
    catalog = folder / "collector" / "catalog.duckdb"
    try:
        wait_for(
            lambda: "200" in run_duckdb(catalog, "select case when count(*) > 150 then 200 end from turns").stdout,
            30,
            "turns in the catalog",
        )
        yield program, folder, catalog
    finally:
        stop.set()
        writer.join(30)
        program.stop()


def run_duckdb(catalog, sql):
    """DuckDB's own command line."""
    command = [str(Path(sys.executable).with_name("duckdb")), "-readonly", "-csv", str(catalog), sql]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_duckdb_reads_the_catalog_while_the_collector_writes(writing):
    """Every read of another process succeeds, sees each span once, and time goes on between them."""
    _, _, catalog = writing
    seen = []
    for _ in range(READS):
        done = run_duckdb(catalog, "select count(*), count(distinct (trace_id, span_id)) from spans")
        assert done.returncode == 0, done.stderr
        _, (count, distinct) = csv.reader(io.StringIO(done.stdout))
        assert count == distinct
        seen.append(int(count))
    assert seen == sorted(seen)
    assert seen[0] < seen[-1]


def test_notebook_of_the_docs_runs_while_the_collector_writes(writing, monkeypatch):
    """Every cell runs, and the tables are not empty."""
    _, folder, _ = writing
    monkeypatch.setenv("LASTWORD_DATA_DIR", str(folder))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    tables = [
        output["data"]["text/html"]
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "data" in output
    ]
    assert len(tables) == 3
    assert all("<td>" in table for table in tables)
    assert nbformat.read(NOTEBOOK, as_version=4).cells[1].outputs == []


def lastword_sql(*arguments, text=True, stdin=None):
    command = [sys.executable, "-m", "lastword.cli.main", "sql", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=text, input=stdin, timeout=60, check=False)


@pytest.mark.parametrize("where", ["live", "catalog"])
def test_command_line_prints_a_result_in_every_format(writing, where, tmp_path):
    """The same query, live and from the catalog: as a table, JSON, CSV, Arrow and Parquet; from an argument, a file and standard input."""
    program, _, catalog = writing
    source = ("--url", program.url) if where == "live" else ("--catalog", str(catalog))
    query = "select 1 as one, 'a' as word, [1, 2] as list, null as nothing"
    assert "word" in lastword_sql(*source, query).stdout
    rows = [{"one": 1, "word": "a", "list": [1, 2], "nothing": None}]
    assert json.loads(lastword_sql(*source, "--format", "json", query).stdout) == rows
    assert lastword_sql(*source, "--format", "csv", stdin=query).stdout == 'one,word,list,nothing\n1,a,"[1, 2]",\n'
    (tmp_path / "query.sql").write_text(query)
    parquet = lastword_sql(*source, "--format", "parquet", "-f", str(tmp_path / "query.sql"), text=False).stdout
    assert pyarrow.parquet.read_table(io.BytesIO(parquet)).to_pylist() == rows
    arrow = lastword_sql(*source, "--format", "arrow", query, text=False).stdout
    assert pyarrow.ipc.open_stream(arrow).read_all().to_pylist() == rows
    cut = lastword_sql(*source, "--max-rows", "3", "select * from range(10)")
    assert "only the first 3 rows" in cut.stderr
    wrong = lastword_sql(*source, "select * from nowhere")
    assert wrong.returncode == 1
    assert "nowhere" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert lastword_sql(*source, "drop view turns").returncode == 1


def test_file_that_is_no_catalog_is_told(tmp_path):
    """A sentence, not a traceback."""
    (tmp_path / "x.duckdb").write_text("no database" * 1000)
    done = lastword_sql("--catalog", str(tmp_path / "x.duckdb"), "select 1")
    assert done.returncode == 2
    assert "cannot be read" in done.stderr
    assert "Traceback" not in done.stderr
