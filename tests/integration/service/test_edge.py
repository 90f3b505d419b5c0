"""What every answer of the service has in common: problem documents, headers, versions, and calls from pages of elsewhere."""

import json
import os
import socket
import subprocess
import sys

import pytest

from lastword.grammar import TurnGrammar
from lastword.wire import decode_stream
from tests.support.product import ROOT
from tests.support.service import Service

PROBLEM = "application/problem+json"
APP = "https://app.example.com"
TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(scope="module", params=["uvicorn", "granian"])
def service(tmp_path_factory, request):
    running = Service(
        tmp_path_factory.mktemp(request.param),
        LASTWORD_SERVICE_SERVER=request.param,
        LASTWORD_SERVICE_CORS_ORIGINS=f"{APP}, http://localhost:3000",
    )
    yield running
    assert running.stop() == 0


def terminal_of(response):
    grammar = TurnGrammar()
    for event in decode_stream(response.content):
        grammar.feed(event)
    return grammar.terminal


@pytest.mark.parametrize("asked", ["turn/99.0", "turn/1", "", "nonsense", "turn/2.0, turn/3.0"])
def test_unknown_version_is_406_with_those_that_are_spoken(service, asked):
    """For every call of the contract, whatever else is wrong with it."""
    calls = [
        ("POST", "/v1/turns"),
        ("GET", "/v1/turns/trn_x"),
        ("GET", "/v1/turns/trn_x/events"),
        ("POST", "/v1/turns/trn_x/cancel"),
    ]
    for method, path in calls:
        response = service.http.request(method, path, headers={"turn-contract": asked}, json={"message": "x"})
        assert (response.status_code, response.headers["content-type"]) == (406, PROBLEM), (method, path)
        assert response.json()["versions"] == ["turn/1.0"]


@pytest.mark.parametrize("asked", ["turn/1.0", "turn/2.0, turn/1.0"])
def test_version_that_is_spoken_is_answered(service, asked):
    """Alone, or as one of several that the client understands."""
    response = service.ask("2+2", headers={"turn-contract": asked})
    assert (response.status_code, response.headers["turn-contract"]) == (200, "turn/1.0")
    assert terminal_of(response) is not None


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nope", 404),
        ("PUT", "/v1/turns", 405),
        ("POST", "/v1/turns", 400),
        ("GET", "/v1/turns/trn_x", 404),
        ("GET", "/docs/x", 404),
    ],
)
def test_problem_names_the_trace(service, method, path, status):
    """The caller's trace where it sent one, else one made up; and every member that the contract asks for."""
    response = service.http.request(method, path, headers={"traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    problem = response.json()
    assert (response.status_code, response.headers["content-type"], problem["status"]) == (status, PROBLEM, status)
    assert problem["traceId"] == TRACE
    assert {"type", "title", "detail"} <= set(problem)
    fresh = {service.http.request(method, path).json()["traceId"] for _ in range(2)}
    assert len(fresh) == 2
    assert all(len(trace) == 32 and trace != TRACE for trace in fresh)


@pytest.mark.parametrize(
    "path", ["/health/live", "/metrics", "/schema", "/.well-known/turn-contract", "/nope", "/v1/turns/trn_x"]
)
def test_answers_are_protected(service, path):
    """Nothing guesses their type, frames them, or learns from where they came; and nothing names the server's software."""
    headers = service.http.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["server"] == "lastword"
    assert (headers.get("cache-control") == "no-store") is path.startswith("/v1/")


def test_stream_and_page_keep_their_own_headers(service):
    """A stream stays `no-transform`; the page may run its own script, and nobody else's."""
    stream = service.ask("2+2").headers
    assert (stream["cache-control"], stream["x-content-type-options"]) == ("no-cache, no-transform", "nosniff")
    page = service.http.get("/try").headers
    assert "script-src 'self'" in page["content-security-policy"]
    assert page["x-frame-options"] == "DENY"


def test_listed_page_may_ask_and_read_what_it_needs(service):
    """Preflight and call of a page on the list, as a browser makes them; the stream and a problem alike."""
    wanted = "authorization,content-type,idempotency-key,turn-contract"
    asking = {"origin": APP, "access-control-request-method": "POST", "access-control-request-headers": wanted}
    preflight = service.http.options("/v1/turns", headers=asking)
    assert preflight.status_code in (200, 204)
    assert preflight.headers["access-control-allow-origin"] == APP
    allowed = {name.strip().lower() for name in preflight.headers["access-control-allow-headers"].split(",")}
    assert set(wanted.split(",")) <= allowed
    for response in (service.ask("2+2", headers={"origin": APP}), service.ask("", headers={"origin": APP})):
        assert response.headers["access-control-allow-origin"] == APP
        exposed = {name.strip() for name in response.headers["access-control-expose-headers"].split(",")}
        assert {"Turn-Id", "Turn-Contract", "Idempotency-Replayed", "Retry-After"} <= exposed
        assert "access-control-allow-credentials" not in response.headers


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "https://app.example.com.evil.example", "null", "http://app.example.com"]
)
def test_other_pages_may_not_read(service, origin):
    """No header says that they may."""
    asking = {"origin": origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    assert "access-control-allow-origin" not in service.http.options("/v1/turns", headers=asking).headers
    assert "access-control-allow-origin" not in service.ask("2+2", headers={"origin": origin}).headers


def raw(service, request):
    """What comes back for these bytes, until the server closes."""
    with socket.create_connection(("127.0.0.1", service.port), 10) as line:
        line.settimeout(20)
        line.sendall(request)
        got = b""
        while piece := line.recv(65536):
            got += piece
        return got


def test_body_without_a_length_is_bounded_too(service):
    """A chunked body is read to the limit and no further."""
    head = b"POST /v1/turns HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    got = raw(service, head + piece * 5 + b"0\r\n\r\n")
    assert b" 413 " in got.split(b"\r\n")[0]
    assert PROBLEM.encode() in got


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"message": ' + b"[" * 50_000,
        b'{"message": "x", "deadlineMs": NaN}',
        b'{"message": "x", "deadlineMs": 1e400}',
        b'{"message": "x", "deadlineMs": 99999999999999999999999}',
        b'{"message": "\xff\xfe"}',
        b'\xef\xbb\xbf{"message": "x", "metadata": {"a": 1}}',
        json.dumps({"message": "x", "conversationId": "a\x00b"}).encode(),
        json.dumps({"message": "x", "metadata": {"k\x00": "v"}, "route": "\x00"}).encode(),
        json.dumps({"message": "x", "metadata": {str(n): "v" for n in range(1000)}}).encode(),
        b"",
    ],
)
def test_hostile_body_is_a_problem_and_no_bug(service, body):
    """A clear refusal, or an answer; never a 500."""
    response = service.http.post("/v1/turns", content=body, headers={"content-type": "application/json"})
    assert response.status_code < 500
    if response.status_code != 200:
        assert response.headers["content-type"] == PROBLEM


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("idempotency-key", "k" * 300),
        ("idempotency-key", "k\xe9y"),
        ("authorization", "Bearer \xff\xfe"),
        ("authorization", "Basic x"),
        ("last-event-id", "trn_x." + "9" * 400),
        ("traceparent", "\xff" * 55),
        ("content-type", "text/html"),
    ],
)
def test_hostile_header_is_a_problem_and_no_bug(service, name, value):
    """Whatever stands in a header."""
    lines = f"POST /v1/turns HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 17\r\n{name}: {value}\r\n".encode(
        "latin-1"
    )
    if name != "content-type":
        lines += b"Content-Type: application/json\r\n"
    status = int(raw(service, lines + b'\r\n{"message":"2+2"}').split(b" ")[1])
    assert status < 500


def test_origins_are_checked_at_start(tmp_path):
    """A path, or a star in the middle, is a mistake that must not look like a list."""
    for origins in ("https://app.example.com/", "*.example.com", "app.example.com", f"*,{APP}"):
        env = {**os.environ, "LASTWORD_DATA_DIR": str(tmp_path), "LASTWORD_SERVICE_CORS_ORIGINS": origins}
        ended = subprocess.run(
            [sys.executable, "-m", "service"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
        )
        assert ended.returncode == 2
        assert "LASTWORD_SERVICE_CORS_ORIGINS" in ended.stderr


def test_without_a_list_no_page_may_read_and_a_trace_may_be_linked_only(tmp_path):
    """The default; and `trust_traceparent` off gives a turn a trace of its own."""
    plain = Service(tmp_path, LASTWORD_SERVICE_TRUST_TRACEPARENT="false")
    response = plain.ask("2+2", headers={"origin": APP, "traceparent": f"00-{TRACE}-b7ad6b7169203331-01"})
    assert "access-control-allow-origin" not in response.headers
    assert decode_stream(response.content)[0].trace_id != TRACE
    assert plain.stop() == 0
