"""`lastword check` on servers that are what they should be: the smallest one, one that is stopped in the middle, and none at all."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import closing
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner

from lastword.check.case import Need, all_cases
from lastword.cli.main import main
from lastword.events import Ack, Chunk, Done
from lastword.wire import decode_stream
from tests.support.product import ROOT, free_port, wait_for

SMALLEST = ROOT / "docs" / "examples" / "smallest_server.py"
# A shell that starts the tests in the background has them ignore Ctrl-C; the command is not to inherit that.
COMMAND = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from lastword.cli.main import main; main()"


def listens(port):
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def smallest():
    """The address of the example, run as its page says."""
    port = free_port()
    child = subprocess.Popen([sys.executable, str(SMALLEST), str(port)], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: listens(port), 20, "the smallest server")
        yield f"http://127.0.0.1:{port}"
    finally:
        child.kill()
        child.wait(5)


@pytest.fixture(scope="module")
def checked(smallest, tmp_path_factory):
    """Exit status, output, and both reports of a whole run, with real processes on both sides."""
    folder = tmp_path_factory.mktemp("reports")
    arguments = [sys.executable, "-c", COMMAND, "check", smallest, "--json", "report.json", "--junit", "report.xml"]
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    return done, json.loads((folder / "report.json").read_text()), ET.parse(folder / "report.xml").getroot()


def test_smallest_server_conforms_as_far_as_it_can_be_tried(checked):
    """Exit status 0, nothing failed; and the last line says how much was not tried."""
    done, report, _ = checked
    assert done.returncode == 0, done.stdout
    assert "✗" not in done.stdout
    last = done.stdout.strip().splitlines()[-1]
    assert re.match(r"turn/1\.0 conforms as far as tried · MUST \d+/73 · SHOULD 1/7 · \d+ not tried · lastword check \S+", last)
    assert last.startswith(report["summary"])


def test_smallest_server_passes_every_case_that_needs_a_client_only(checked):
    """Every case that needs no other side passes, but the two that need more to be told."""
    _, report, _ = checked
    verdicts = {case["id"]: case["verdict"] for case in report["cases"]}
    eligible = {case.id for case in all_cases() if case.needs is Need.NOTHING}
    assert {ident for ident, verdict in verdicts.items() if verdict == "passed"} == eligible - {"R50", "R51"}
    assert {verdicts[ident] for ident in set(verdicts) - eligible} == {"skipped"}


def test_reports_of_a_run_agree(checked):
    """JSON and JUnit tell of the same cases."""
    _, report, suite = checked
    assert report["conforms"] is True
    assert [case.get("name").split()[0] for case in suite] == [case["id"] for case in report["cases"]]
    assert int(suite.get("skipped")) == sum(1 for case in report["cases"] if case["verdict"] == "skipped")
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")


def test_smallest_server_imports_nothing_of_ours():
    """It can be copied to any place."""
    modules = re.findall(r"^(?:from|import) (\w+)", SMALLEST.read_text(encoding="utf-8"), re.MULTILINE)
    assert set(modules) <= set(sys.stdlib_module_names)


def test_smallest_server_speaks_the_types_of_the_contract(smallest):
    """Its events decode as ack, chunks and done."""
    import httpx2

    asked = json.dumps({"message": "Why is my stream \ud83c partial?"})
    body = httpx2.post(f"{smallest}/v1/turns", content=asked, timeout=10).content
    first, *chunks, last = decode_stream(body)
    assert isinstance(first, Ack)
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
    assert isinstance(last, Done)
    assert last.metadata.answer == "".join(chunk.text for chunk in chunks) == "Why is my stream \ufffd partial?"


def test_summary_of_a_choice_says_that_it_was_one(smallest):
    """A single case that passes is no proof of the others."""
    result = CliRunner().invoke(main, ["check", smallest, "--only", "W4"])
    assert result.exit_code == 0
    assert "turn/1.0 conforms as far as tried · MUST 1/73 · SHOULD 0/7 · 79 not tried" in result.output


def test_json_on_stdout_is_nothing_but_json(smallest):
    """Progress goes elsewhere."""
    result = CliRunner().invoke(main, ["check", smallest, "--only", "W", "--level", "SHOULD", "--json", "-"])
    assert {case["group"] for case in json.loads(result.stdout)["cases"]} == {"Wire"}
    assert "conforms" in result.stderr


def test_explain_with_a_server_shows_its_bytes(smallest):
    """`--explain` runs the case, and says what it found."""
    result = CliRunner().invoke(main, ["check", smallest, "--explain", "W4"])
    assert result.exit_code == 0
    assert "W4  LF framing, one data line" in result.output
    assert "found  passed" in result.output


def test_explain_and_list_need_no_server():
    """The rules can be read anywhere."""
    assert "contract 3" in CliRunner().invoke(main, ["check", "--explain", "P26"]).output
    listed = CliRunner().invoke(main, ["check", "--list"])
    assert listed.exit_code == 0
    assert all(f"  {case.id:<4} {case.level.value:<7} {case.title}" in listed.output for case in all_cases())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_run_ends_its_server_and_says_so(number, status):
    """Ctrl-C in the middle, or the end of a CI job: the started server is gone, what was found until then stands there."""
    port = free_port()
    start = f"{sys.executable} -m tests.conformance.reference"
    arguments = ["check", f"http://127.0.0.1:{port}", "--start", start, "--api-key", "one", "--only", "W1", "--only", "G15"]
    running = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments, "--random-turns", "100000"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        try:
            assert "✓ W1" in running.stdout.readline()
            assert listens(port)
            running.send_signal(number)
            began = time.monotonic()
            _, errors = running.communicate(timeout=30)
        finally:
            running.kill()
    assert running.returncode == status, errors
    assert time.monotonic() - began < 25
    assert "Traceback" not in errors
    assert not listens(port)
