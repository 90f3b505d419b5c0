"""The command line: help that helps, clear messages, honest exit statuses."""

import sys
import threading

import pytest
from click.testing import CliRunner

from lastword.cli.main import main
from lastword.cli.supervise import Program, StartError, Supervisor
from tests.support.product import free_port

NOBODY = "http://127.0.0.1:1"


def run(*arguments, **options):
    return CliRunner().invoke(main, list(arguments), **options)


@pytest.mark.parametrize("command", ["up", "ask", "sql", "demo"])
def test_help_says_what_a_command_does(command):
    """Every command explains itself, and its options have words."""
    shown = run(command, "--help")
    assert shown.exit_code == 0
    assert "Options:" in shown.output


def test_help_lists_all_commands():
    """The first screen names them all."""
    shown = run("--help")
    assert all(f"\n  {name}" in shown.output for name in ("up", "ask", "sql", "demo", "db", "index", "keys", "routes"))


@pytest.mark.parametrize(
    ("arguments", "status"), [(("ask", "why?"), 2), (("sql", "select 1"), 2), (("demo", "--turns", "1"), 1)]
)
def test_nobody_there_is_said_with_what_to_do(arguments, status):
    """Where nothing runs, the message names the address; no traceback."""
    shown = run(*arguments, "--url", NOBODY)
    assert shown.exit_code == status
    assert NOBODY in shown.output
    assert "Traceback" not in shown.output


def test_sql_without_a_query_is_a_usage_error():
    """An empty query is asked for, with an example."""
    shown = run("sql", "")
    assert shown.exit_code == 2
    assert "lastword sql" in shown.output


def test_unusable_files_of_the_demo_are_named(tmp_path):
    """A file without questions, a trace with other columns: the message names the file."""
    empty, table = tmp_path / "q.jsonl", tmp_path / "a.csv"
    empty.write_text('{"x": 1}\n')
    table.write_text("a,b\n1,2\n")
    assert "no line has a `question`" in run("demo", "--questions", str(empty), "--url", NOBODY).output
    assert "TIMESTAMP" in run("demo", "--arrivals", str(table), "--url", NOBODY).output


def program(tmp_path, name, code):
    (tmp_path / f"{name}.py").write_text(code)
    port = free_port()
    return Program(name=name, module=name, port=port, health=f"http://127.0.0.1:{port}/health")


SERVER = """
import http.server, os, sys
port = int(os.environ["PORT_" + __file__.split("/")[-1][:-3]])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *args): pass
print("listening", flush=True)
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def supervisor(tmp_path, programs, lines):
    import os

    ports = {f"PORT_{one.name}": str(one.port) for one in programs}
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}", **ports}
    return Supervisor(programs, environment, lambda name, line: lines.append((name, line)))


def test_supervisor_starts_shows_and_ends(tmp_path):
    """Programs are waited for, their lines come by name, and none is left at the end."""
    programs, lines = [program(tmp_path, "one", SERVER), program(tmp_path, "two", SERVER)], []
    running = supervisor(tmp_path, programs, lines)
    running.check_ports()
    running.start()
    assert running.wait_ready(threading.Event())
    running.stop()
    assert sorted(lines) == [("one", "listening"), ("two", "listening")]
    assert all(child.poll() is not None for child in running._children.values())


def test_supervisor_names_the_program_that_did_not_start(tmp_path):
    """The message holds its name, its status and what it printed last."""
    programs = [program(tmp_path, "good", SERVER), program(tmp_path, "bad", "print('no such luck'); raise SystemExit(3)")]
    running = supervisor(tmp_path, programs, [])
    running.start()
    with pytest.raises(StartError, match=r"(?s)the bad ended with status 3.*no such luck"):
        running.wait_ready(threading.Event())
    running.stop()


def test_supervisor_notices_a_program_that_dies(tmp_path):
    """One that ends by itself is named, so that the others can be stopped."""
    programs = [program(tmp_path, "mortal", SERVER)]
    running = supervisor(tmp_path, programs, [])
    running.start()
    running.wait_ready(threading.Event())
    running._children["mortal"].kill()
    assert running.watch(threading.Event()) == "mortal"
    running.stop()


def test_parent_that_ended_while_the_programs_started_is_noticed():
    """Whose place somebody else has taken by then is not waited for for ever."""
    watched = Supervisor([], {}, lambda *_: None)
    assert watched.watch(threading.Event(), parent=-1) is None
