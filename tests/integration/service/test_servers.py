"""The service on each of its HTTP servers: the whole contract, and the end of a process that is busy."""

import json
import signal
import socket
import subprocess
import sys
import time

import pytest

from lastword.check.case import all_cases
from lastword.wire import decode_stream
from tests.support.product import ROOT, captured, free_port, wait_for
from tests.support.service import QUESTION, Service

SERVERS = ("uvicorn", "granian")
RUN_S = 600


@pytest.mark.slow
@pytest.mark.timeout(RUN_S + 60)
@pytest.mark.parametrize("server", SERVERS)
def test_service_keeps_the_whole_turn_contract(server, tmp_path):
    """`lastword check` passes whole: every case, MUST and SHOULD, with its own counts, none skipped and none left untried."""
    report = tmp_path / "report.json"
    arguments = ["check", f"http://127.0.0.1:{free_port()}", "--start", f"{sys.executable} -m service"]
    arguments += ["--env-file", "service/conformance.env", "--env", f"LASTWORD_SERVICE_SERVER={server}"]
    arguments += ["--api-key", "check-one", "--other-key", "check-two", "--limited-key", "check-few"]
    arguments += ["--env", "LASTWORD_SERVICE_SEND_TIMEOUT_MS=8000"]  # W14 reads byte by byte: a busy machine is slow at it
    command = [sys.executable, "-m", "lastword.cli.main", *arguments, "--limit", str(RUN_S), "--strict", "--json", str(report)]
    run = captured(command, timeout_s=RUN_S + 50)
    assert run.returncode == 0, run.stdout + run.stderr
    told = {case["id"]: case["verdict"] for case in json.loads(report.read_text())["cases"]}
    assert told == {case.id: "passed" for case in all_cases()}, run.stdout


def _ask(port):
    """A connection on which a turn was asked for."""
    body = json.dumps({"message": QUESTION}).encode()
    head = f"POST /v1/turns HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    asked = socket.create_connection(("127.0.0.1", port), 10)
    asked.sendall(head.encode() + body)
    return asked


def _until(asked, what, timeout_s=20):
    """What came on a connection, up to something."""
    asked.settimeout(timeout_s)
    seen = b""
    while what not in seen:
        data = asked.recv(65_536)
        assert data, f"the connection ended without {what!r}: {seen[-300:]!r}"
        seen += data
    return seen


def _rest(asked, timeout_s=20):
    asked.settimeout(timeout_s)
    seen = b""
    while data := asked.recv(65_536):
        seen += data
    return seen


def _events(raw):
    """The events in a response with chunked transfer encoding."""
    _, _, rest = raw.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body, rest = body + rest[:length], rest[length + 2 :]
        if length == 0:
            return decode_stream(body), True
    return decode_stream(body), False


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize(("first", "again"), [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGINT)])
def test_process_that_is_told_to_end_ends_every_turn_first(tmp_path, server, first, again):
    """Fifty running turns: each stream gets its terminal and a clean end; the process ends with status 0 within its grace; a second signal is harmless."""
    service = Service(tmp_path, LASTWORD_SERVICE_SERVER=server, LASTWORD_SERVICE_PACE_MS="400", LASTWORD_SERVICE_DRAIN_S="8")
    asked = []
    try:
        asked = [_ask(service.port) for _ in range(50)]
        begun = [_until(one, b"event: chunk") for one in asked]
        told = time.monotonic()
        service.process.send_signal(first)
        service.process.send_signal(again)
        for one, seen in zip(asked, begun, strict=True):
            events, complete = _events(seen + _rest(one))
            assert complete, "the response was cut"
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            assert (events[-1].metadata.partial, events[-1].metadata.reason) == (True, "server_shutdown")
        assert service.process.wait(20) == 0
        assert time.monotonic() - told < 8 + 5
    finally:
        for one in asked:
            one.close()
        service.http.close()
        service.process.kill()
        service.process.wait(10)


@pytest.mark.parametrize("server", SERVERS)
def test_idle_process_ends_at_once(tmp_path, server):
    """A client that keeps its connection open does not hold it up."""
    service = Service(tmp_path, LASTWORD_SERVICE_SERVER=server)
    assert service.ask().status_code == 200  # and the connection stays in the client's pool
    told = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    try:
        assert service.process.wait(20) == 0
        assert time.monotonic() - told < 5
    finally:
        service.http.close()
        service.process.kill()


@pytest.mark.parametrize("server", SERVERS)
def test_connection_of_a_viewer_that_never_reads_goes_away(tmp_path, server):
    """Also where the response is complete and only its end was not taken: a closed connection would wait for its buffer for ever."""
    service = Service(
        tmp_path,
        LASTWORD_SERVICE_SERVER=server,
        LASTWORD_SERVICE_SEND_TIMEOUT_MS="1000",
        LASTWORD_SERVICE_PACE_MS="0",
    )
    try:
        turn_id = service.ask().headers["turn-id"]
        stuck = socket.socket()
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        stuck.connect(("127.0.0.1", service.port))
        request = f"GET /v1/turns/{turn_id}/events HTTP/1.1\r\nHost: x\r\n\r\n".encode()
        stuck.sendall(request * 200)  # pipelined, so that far more waits than the system's buffers take

        def gone():
            try:
                stuck.send(b"\r\n")
            except OSError:
                return True
            return False

        wait_for(gone, 15, "the connection is reset")
        stuck.close()
        assert service.ask().status_code == 200
    finally:
        assert service.stop() == 0


def test_address_in_use_is_said_in_one_line(tmp_path):
    """No traceback: what cannot be listened on is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        run = subprocess.run(
            [sys.executable, "-m", "service"],
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "LASTWORD_DATA_DIR": str(tmp_path), "LASTWORD_SERVICE_PORT": port},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert run.returncode == 1
    assert run.stderr.strip() == f"service: cannot listen on 127.0.0.1:{port}: Address already in use"
