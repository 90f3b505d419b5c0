"""`lastword check` against what is no turn server: a clear verdict in one line, soon, and never a traceback."""

import re
import socket
import ssl
import threading
import time
from contextlib import contextmanager, suppress

import pytest
from click.testing import CliRunner

from lastword.check import exchange, preflight, process
from lastword.cli.main import main
from tests.support.product import free_port

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
EVENTS = HEAD + b"Content-Type: text/event-stream\r\n\r\n"
BOUND_S = 8.0


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Nobody has to wait ten seconds for a server that says nothing."""
    monkeypatch.setattr(preflight, "LIMIT_S", 3.0)
    monkeypatch.setattr(preflight, "HEAD_S", 0.4)
    monkeypatch.setattr(preflight, "EVENT_S", 0.4)
    monkeypatch.setattr(preflight, "REST_S", 0.3)
    monkeypatch.setattr(exchange, "CONNECT_S", 0.5)
    monkeypatch.setattr(process, "START_S", 0.5)


@contextmanager
def answering(behave):
    """A server that reads a request's head and then behaves; its port."""
    ending = threading.Event()
    threads = []

    def handle(connection):
        with connection, suppress(OSError):
            connection.settimeout(5)
            connection.recv(65_536)
            behave(connection, ending)

    def accept(listener):
        while not ending.is_set():
            with suppress(TimeoutError):
                connection, _ = listener.accept()
                threads.append(threading.Thread(target=handle, args=(connection,), daemon=True))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        accepting = threading.Thread(target=accept, args=(listener,), daemon=True)
        accepting.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ending.set()
            for thread in [accepting, *threads]:
                thread.join(5)
                assert not thread.is_alive()


def says(*parts):
    def behave(connection, ending):
        for part in parts:
            connection.sendall(part)

    return behave


def endless(start, piece, pause_s=0.0):
    def behave(connection, ending):
        connection.sendall(start)
        while not ending.is_set():
            connection.sendall(piece)
            ending.wait(pause_s)

    return behave


def silent(connection, ending):
    ending.wait(10)


def reset(connection, ending):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def body(status, kind, content):
    return says(f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content)


OPENAI = b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"delta":{"content":"Hi"}}]}\n\n'
PROBLEM = b'{"type": "about:blank", "title": "Busy", "status": 503, "detail": "All \\u001b[31mworkers\\nare busy."}'

NO_TURN_SERVERS = {
    "plain JSON": (body(200, "application/json", b'{"hello": "world"}'), "answers 200 with plain JSON"),
    "JSON 404": (body(404, "application/json", b'{"error": "no"}'), "answers 404 with plain JSON"),
    "a web page": (body(200, "text/html; charset=utf-8", b"<h1>It works!</h1>"), "answers 200 with a web page"),
    "no content type": (says(HEAD + b"\r\nhello"), "a response without content type"),
    "a redirect": (says(b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"), "answers 302 to /login"),
    "a problem": (body(503, "application/problem+json", PROBLEM), "does not let us ask: .* 503: All .31mworkers are busy."),
    "a missing key": (body(401, "application/problem+json", b"{}"), "--api-key"),
    "silence": (silent, "answers nothing within 0.4 s"),
    "a close": (says(), r"closed the connection \(eof\)"),
    "a reset": (reset, r"closed the connection \(reset\)"),
    "garbage": (says(b"\x00\xff\x1b[2Jgarbage\r\n\r\n" * 9), "does not speak HTTP: it sent"),
    "TLS": (says(b"\x15\x03\x03\x00\x02\x02\x46"), "is it https:// and not http://"),
    "an endless header": (endless(HEAD + b"X-Long: ", b"x" * 4096), "does not speak HTTP|does not end its headers"),
    "headers one at a time": (endless(HEAD, b"X-More: 1\r\n", 0.02), "does not end its headers within 0.4 s"),
    "a huge header": (says(HEAD + b"X-Huge: " + b"h" * 200_000 + b"\r\n\r\n"), "does not speak HTTP"),
    "endless promises": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01), "does not end its headers within 0.4 s"),
    "endless bytes": (endless(HEAD + b"Content-Type: video/mp4\r\n\r\n", b"x" * 4096), "answers 200 with video/mp4"),
    "endless bytes as events": (endless(EVENTS, b"x" * 4096), "bytes that hold no event"),
    "endless comments": (endless(EVENTS, b": hb\n\n", 0.01), "no event comes within 0.4 s"),
    "a flood of comments": (endless(EVENTS, b": hb\n\n" * 1000), "bytes that hold no event|no event comes"),
    "an empty event stream": (says(EVENTS), "0 bytes that hold no event"),
    "another's stream": (says(EVENTS + OPENAI + b"data: [DONE]\n\n"), "events that are no turn's: the first is 'message'"),
    "another's endless stream": (endless(EVENTS, OPENAI, 0.01), "events that are no turn's"),
    "events of numbers": (says(EVENTS + b"event: ack\ndata: 7\n\n"), "the first is 'ack' without a turnId"),
}


def check(url, *arguments):
    """The command's result, which has to come within a bound."""
    began = time.monotonic()
    result = CliRunner().invoke(main, ["check", url, *arguments])
    assert time.monotonic() - began < BOUND_S
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def verdict(result):
    """The one line that it says."""
    assert result.exit_code == 2, result.output
    line, *more = result.stderr.splitlines()
    assert more == []
    assert result.stdout == ""
    assert line.startswith("lastword check: ")
    assert line.isprintable()
    assert len(line) < 500
    return line


@pytest.mark.parametrize("name", NO_TURN_SERVERS)
def test_verdict_names_what_is_there_instead(name):
    """Whatever answers, the command says in one line what it is, and ends with 2."""
    behave, says_so = NO_TURN_SERVERS[name]
    with answering(behave) as port:
        assert re.search(says_so, verdict(check(f"http://127.0.0.1:{port}")))


def test_verdict_of_a_closed_port():
    """Nobody there."""
    assert "nobody answers: no connection" in verdict(check(f"http://127.0.0.1:{free_port()}"))


@pytest.mark.parametrize("behave", [body(400, "text/plain", b"no"), silent], ids=["speaks plainly", "says nothing"])
def test_verdict_of_https_where_http_is_spoken(behave):
    """A TLS handshake that cannot succeed is bounded, and named."""
    with answering(behave) as port:
        assert "no connection to https://" in verdict(check(f"https://127.0.0.1:{port}"))


def test_verdict_of_a_wrong_protocol_hints_at_http():
    """The usual mistake has its hint."""
    with answering(body(400, "text/plain", b"no")) as port:
        assert "is it http:// and not https://?" in verdict(check(f"https://127.0.0.1:{port}"))


def test_verdict_of_a_certificate_that_nobody_signed(tmp_path):
    """A server whose certificate is not trusted cannot be reached."""
    trustme = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)  # without a certificate it refuses every handshake

    def behave(connection, ending):
        with suppress(ssl.SSLError):
            trustme.wrap_socket(connection, server_side=True)

    with answering(behave) as port:
        assert "no connection to https://" in verdict(check(f"https://127.0.0.1:{port}"))


def test_verdict_of_a_host_that_cannot_be_one():
    """A label of a hundred letters is no name; no traceback of the resolver's."""
    assert "nobody answers" in verdict(check(f"http://{'a' * 100}.example:80"))


def test_turn_server_that_stops_in_mid_turn_fails_in_bounded_time():
    """A server that begins turns and never ends them is checked, fails, and takes no longer than it may."""
    ack = b'event: ack\nid: t.1\ndata: {"type": "ack", "turnId": "t", "seq": 1}\n\n'

    def behave(connection, ending):
        connection.sendall(EVENTS + ack)
        ending.wait(10)

    with answering(behave) as port:
        result = check(f"http://127.0.0.1:{port}", "--only", "W4", "--only", "W6", "--limit", "2")
    assert result.exit_code == 1
    assert "✗ W4" in result.output
    assert "the run's limit of 2 s was reached" in result.output
    assert "does not conform · MUST 0/73" in result.output


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/", "http://", "http://127.0.0.1:99999", "http://[::1", "http://127.0.0.1:1/a b", "http://ä:1"]
)
def test_malformed_url_is_a_usage_error(url):
    """What is no address is said before anything is tried."""
    result = check(url)
    assert result.exit_code == 2
    assert "Error: " in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "Q99"], "no case and no group is called 'Q99'"),
        (["--explain", "wibble"], "no case and no group is called 'wibble'"),
        (["--api-key", "no\nkey"], "--api-key cannot stand in a header"),
        (["--other-key", "schlüssel"], "--other-key cannot stand in a header"),
        (["--json", "/no/such/folder/report.json"], "there is no folder"),
        (["--junit", "/no/such/folder/report.xml"], "there is no folder"),
        (["--start", "true", "--env", "PORT"], "expected NAME=VALUE"),
        (["--level", "PERHAPS"], "'PERHAPS' is not one of"),
    ],
)
def test_arguments_that_cannot_work_are_usage_errors(arguments, message):
    """Nothing is started for them."""
    result = check(f"http://127.0.0.1:{free_port()}", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_no_url_is_a_usage_error():
    """The message shows what an address looks like."""
    result = CliRunner().invoke(main, ["check"])
    assert result.exit_code == 2
    assert "http://127.0.0.1:8000" in result.stderr


@pytest.mark.parametrize("option", ["--provider-port", "--otlp-port"])
def test_port_in_use_is_said(option):
    """A side that cannot listen is named with its port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = check(f"http://127.0.0.1:{free_port()}", option, str(port))
    assert result.exit_code == 2
    assert f"port {port} cannot be used" in result.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-program --serve", "no-such-program: No such file or directory"),
        ("", "the start command is empty"),
        ("server 'unclosed", "the start command cannot be read: No closing quotation"),
        ("python3 -c 'import sys; print(\"no port for me\"); sys.exit(3)'", "ended with status 3:\nno port for me"),
        ("sleep 60", "does not answer after 0.5 s"),
    ],
)
def test_start_that_fails_is_said(command, message):
    """A command that brings no server up ends the run, with what it printed."""
    result = check(f"http://127.0.0.1:{free_port()}", "--start", command)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


def test_start_beside_a_running_server_is_refused():
    """Otherwise the old server would be checked in the name of the new one."""
    with answering(body(200, "application/json", b"{}")) as port:
        result = check(f"http://127.0.0.1:{port}", "--start", "sleep 60")
    assert result.exit_code == 2
    assert "something answers at" in result.stderr
