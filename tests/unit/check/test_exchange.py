"""One exchange on a raw socket: whatever comes is read, kept and bounded; nothing is raised for a server's bad manners."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest

from lastword.check import exchange as module
from lastword.check.bench import Facts, json_of
from lastword.check.exchange import Budget, Exchange, OutOfTime, Target
from lastword.check.stream import TurnStream
from tests.support.product import wait_for

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(*parts):
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)


@contextmanager
def exchanging(*parts, reset=False, hold=False, **options):
    """An exchange whose server sends these bytes and closes, resets, or holds the connection; what it got is in `heard`."""
    release, heard = threading.Event(), []

    def serve():
        connection, _ = listener.accept()
        with connection:
            heard.append(connection.recv(65_536))
            for part in parts:
                connection.sendall(part)
            if hold:
                release.wait(10)
            if reset:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        target = Target.of(f"http://127.0.0.1:{listener.getsockname()[1]}/base/")
        made = Exchange(target, "POST", "/v1/turns", [("X-Mine", "1")], b"body", Budget(10), **options)
        made.heard = heard
        try:
            yield made
        finally:
            release.set()
            made.leave()
            thread.join(10)


def test_exchange_reads_a_whole_response():
    """Status, headers whatever their case, body, and the clean end."""
    with exchanging(HEAD + chunked(b"one ", b"two") + b"0\r\n\r\n") as got:
        got.read_all(5)
        assert (got.status, got.body, got.end, got.size) == (200, b"one two", "complete", 7)
        assert got.header("Content-Type") == "text/event-stream"
        assert got.header("x-none") is None
        assert got.heard[0].startswith(b"POST /base/v1/turns HTTP/1.1\r\nHost: 127.0.0.1:")
        assert got.heard[0].endswith(b"\r\nContent-Length: 4\r\n\r\nbody")


def test_exchange_notes_what_follows_the_end():
    """Bytes behind the last chunk are kept apart."""
    with exchanging(HEAD + chunked(b"one") + b"0\r\n\r\nmore") as got:
        got.read_all(5).read_close(5)
        assert (got.body, got.trailing) == (b"one", b"more")


@pytest.mark.parametrize(
    ("sent", "reset", "end"),
    [
        (b"", False, "eof"),
        (b"", True, "reset"),
        (HEAD + chunked(b"one"), False, "eof"),
        (HEAD + chunked(b"one"), True, "reset"),
        (HEAD + b"wibble\r\none", False, "broken"),
        (b"\0garbage\r\n\r\n", False, "broken"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, False, "broken"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", False, "broken"),
        (b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n", False, "complete"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 9 + b"HTTP/1.1 204 X\r\n\r\n", False, "complete"),
    ],
    ids=range(10),
)
def test_exchange_tells_how_a_response_ended(sent, reset, end):
    """A cut, a reset and bytes that are no HTTP are findings, not exceptions."""
    with exchanging(sent, reset=reset) as got:
        got.read_all(5)
        assert got.end == end


def test_exchange_waits_no_longer_than_it_may():
    """A response that stops is given up."""
    with exchanging(HEAD + chunked(b"one"), hold=True) as got:
        began = time.monotonic()
        with pytest.raises(OutOfTime, match="did not come in time") as raised:
            got.read_all(0.2)
        assert time.monotonic() - began < 5
        assert b"one" in raised.value.evidence


def test_exchange_takes_no_more_than_its_limit(monkeypatch):
    """What is longer is broken off."""
    monkeypatch.setattr(module, "MAX_BYTES", 10_000)
    with exchanging(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200_000) as got:
        got.read_all(5)
        assert got.end == "broken"
        assert "longer than 10000 bytes" in got.why_broken
        assert len(got.raw) < 100_000


def test_exchange_holds_its_last_byte_until_it_is_released():
    """Many requests can be completed at one moment."""
    with exchanging(HEAD + b"0\r\n\r\n", held=True, hold=True) as got:
        wait_for(lambda: got.heard, 5, "the request")
        assert got.heard[0].endswith(b"\r\n\r\nbod")
        got.release()
        assert got.read_all(5).status == 200


def test_evidence_keeps_both_ends():
    """The beginning and the end of a long response, and how much is missing between."""
    with exchanging(HEAD + chunked(b"a" * 5000, b"tail") + b"0\r\n\r\n") as got:
        seen = got.read_all(5).evidence()
        assert seen.startswith(b"HTTP/1.1 200 OK")
        assert seen.endswith(b"tail\r\n0\r\n\r\n")
        assert b"bytes ...]" in seen
        assert len(seen) < 2100


def test_stream_reads_events_comments_and_blocks():
    """Events have their times, comments are told apart, blocks hold no comment."""
    first = b'event: ack\nid: t.1\ndata: {"seq": 1, "turnId": "t"}\n\n'
    second = b'event: done\nid: t.2\ndata: {"seq": 2, "metadata": {"attempts": [1]}}\n\n'
    with exchanging(HEAD + chunked(first[:20], first[20:] + b": hb\n\n", second) + b"0\r\n\r\n") as got:
        stream = TurnStream(got).head().finish(5)
        assert [event.kind for event in stream.events] == ["ack", "done"]
        assert [comment.text for comment in stream.comments] == [b": hb"]
        assert stream.blocks == [first, second]
        assert stream.turn_id == "t"
        with pytest.raises(module.Failed, match="attempts is no list of objects"):
            stream.objects("attempts")
        with pytest.raises(module.Failed, match="usage is no object"):
            stream.fields("usage")
        assert stream.objects("toolCalls") == []


def test_stream_that_is_no_utf8_fails_every_expectation():
    """It is said once what is wrong with it, whatever is looked for."""
    sent = HEAD + chunked(b"data: \xff\xfe\n\n") + b"0\r\n\r\n"
    with exchanging(sent) as got, pytest.raises(module.Failed, match="cannot be read"):
        TurnStream(got).head().finish(5)


@pytest.mark.parametrize(
    ("url", "host", "port", "base"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, "http://127.0.0.1:8000"),
        ("127.0.0.1:8000/", "127.0.0.1", 8000, "http://127.0.0.1:8000"),
        ("https://example.com/api/", "example.com", 443, "https://example.com:443/api"),
        ("http://[::1]:8000", "::1", 8000, "http://[::1]:8000"),
    ],
)
def test_target_of_an_address(url, host, port, base):
    """Scheme and port have their defaults; a path is kept."""
    target = Target.of(url)
    assert (target.host, target.port, target.url) == (host, port, base)


@pytest.mark.parametrize(
    "url", ["", "http://", "ftp://x", "http://x:port", "http://x:70000", "http://x/a b", "http://x/ä", "http://[x"]
)
def test_target_refuses_what_is_no_address(url):
    """With the address in the message, or the part of it that is wrong."""
    with pytest.raises(ValueError, match=r"\S"):
        Target.of(url)


def test_budget_is_never_negative():
    """What is over is over."""
    assert Budget(-5).left_s == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 1e300, "64", True, None, [64]])
def test_facts_leave_out_what_makes_no_sense(value):
    """A server may say what it likes; only sound numbers are believed."""
    facts = Facts.of({"limits": {"maxTurns": value}, "versions": "turn/1.0", "routes": None, "retention": 7})
    assert facts == Facts()


def test_facts_are_read_where_they_are():
    """Numbers and lists of the contract's document."""
    facts = Facts.of({"versions": ["turn/1.0"], "limits": {"maxTurns": 64.0}, "retention": {"logMs": 5000}})
    assert (facts.versions, facts.max_turns, facts.retention_log_ms) == (["turn/1.0"], 64, 5000)


def test_route_with_patience_is_kept_apart():
    """Cases that draw from all routes must not meet time-outs of a minute."""
    facts = Facts.of({"routes": ["support", "patient", "search"]})
    assert (facts.routes, facts.patient_route) == (["support", "search"], "patient")
    assert Facts.of({"routes": ["support"]}).patient_route is None


@pytest.mark.parametrize("body", [b"", b"\xff", b"[1]", b"7", b"[" * 100_000])
def test_json_of_what_is_no_object_is_empty(body):
    """Neither bad bytes nor a nest without bottom raise."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with exchanging(answer) as got:
        assert json_of(got.read_all(5)) == {}
