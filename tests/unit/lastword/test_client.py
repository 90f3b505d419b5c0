"""The client: events in order, resumed where a connection was dropped, refusals as errors."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lastword.client import AsyncTurnClient, TurnClient
from lastword.errors import ContractViolation, TurnRejected, TurnUnreachable
from lastword.events import Done
from lastword.wire import encode_event
from tests.unit.lastword.samples import ACK, DONE, TURN, WHOLE, chunk

FRAMES = [encode_event(event) for event in WHOLE]


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def answer(self):
        self.server.seen.append((self.command, self.path, self.headers.get("last-event-id"), self.headers.get("authorization")))
        length = int(self.headers.get("content-length") or 0)
        self.server.bodies.append(self.rfile.read(length))
        status, headers, body = self.server.answers.pop(0)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = answer  # noqa: N815 - the names that http.server calls


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.seen, server.bodies, server.answers = [], [], []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr("lastword.client.RESUME_PAUSE_S", 0.0)


def stream(*frames):
    return (200, {"content-type": "text/event-stream"}, b"".join(frames))


def ask_sync(url, **fields):
    with TurnClient(url, "key") as client:
        return client.ask("why?", **fields)


def ask_async(url, **fields):
    async def run():
        async with AsyncTurnClient(url, "key") as client:
            return await client.ask("why?", **fields)

    return asyncio.run(run())


both = pytest.mark.parametrize("ask", [ask_sync, ask_async])


@both
def test_client_reads_a_whole_turn(server, ask):
    """Text, answer and terminal, with one request that carries the key and the wishes."""
    server.answers = [stream(*FRAMES)]
    result = ask(server.url, route="knowledge", metadata={"a": "b"})
    assert (result.text, result.answer, result.whole, result.ack) == ("Hello world", "Hello world", True, ACK)
    assert server.seen == [("POST", "/v1/turns", None, "Bearer key")]
    assert server.bodies == [b'{"message": "why?", "route": "knowledge", "metadata": {"a": "b"}}']


@both
@pytest.mark.parametrize("kept", range(1, len(FRAMES)))
def test_client_resumes_behind_the_last_whole_event(server, ask, kept):
    """Wherever the connection is dropped, in mid-frame too, the rest follows and nothing is doubled."""
    server.answers = [stream(*FRAMES[:kept], FRAMES[kept][:9]), stream(*FRAMES[kept:])]
    assert ask(server.url).text == "Hello world"
    assert server.seen[1][:3] == ("GET", f"/v1/turns/{TURN}/events", f"{TURN}.{kept}")


@both
def test_client_gives_up_after_its_tries(server, ask):
    """A server that never goes on is unreachable, after a bounded number of tries."""
    server.answers = [stream(FRAMES[0])] + [stream()] * 20
    with pytest.raises(TurnUnreachable, match="could not be resumed"):
        ask(server.url)
    assert len(server.seen) == 6


@both
def test_client_never_repeats_a_question_that_was_not_acknowledged(server, ask):
    """Without an event there is no turn to resume: asking twice could answer twice."""
    server.answers = [stream()]
    with pytest.raises(TurnUnreachable, match="before the first event"):
        ask(server.url)
    assert len(server.seen) == 1


@both
def test_client_tells_a_refusal(server, ask):
    """A problem document becomes an error with its status, words and Retry-After."""
    server.answers = [(503, {"retry-after": "3"}, b'{"title": "Busy", "detail": "Come back."}')]
    with pytest.raises(TurnRejected) as caught:
        ask(server.url)
    assert (caught.value.status, caught.value.title, caught.value.detail, caught.value.retry_after_s) == (
        503,
        "Busy",
        "Come back.",
        3,
    )


@both
def test_client_refuses_a_stream_that_breaks_the_contract(server, ask):
    """A server that loses an event is not believed."""
    server.answers = [stream(FRAMES[0], encode_event(chunk(3, "x")))]
    with pytest.raises(ContractViolation, match="seq_contiguous"):
        ask(server.url)


@both
def test_client_ignores_events_that_it_does_not_know(server, ask):
    """A later version may say more in between."""
    novel = f'event: novel\nid: {TURN}.2\ndata: {{"type":"novel","turnId":"{TURN}","seq":2,"tMs":1}}\n\n'.encode()
    done = encode_event(Done(turn_id=TURN, seq=5, t_ms=60, metadata=DONE.metadata))
    server.answers = [stream(FRAMES[0], novel, encode_event(chunk(3, "Hello")), encode_event(chunk(4, " world")), done)]
    assert ask(server.url).text == "Hello world"


@both
def test_nobody_there_is_unreachable(ask):
    """A refused connection names the address."""
    with pytest.raises(TurnUnreachable, match=r"no answer from http://127\.0\.0\.1:1"):
        ask("http://127.0.0.1:1")


@both
def test_html_is_a_refusal_and_not_a_crash(server, ask):
    """Something that is no turn server has a clear verdict."""
    server.answers = [(200, {"content-type": "text/html"}, b"<html>hello")]
    with pytest.raises(TurnRejected, match="hello"):
        ask(server.url)


def test_client_looks_at_a_turn_and_cancels_it(server):
    """State and cancel are JSON; a turn that is not there is a refusal."""
    server.answers = [
        (200, {}, b'{"state": "streaming"}'),
        (202, {}, b'{"state": "streaming"}'),
        (404, {}, b'{"title": "Not Found"}'),
    ]
    with TurnClient(server.url) as client:
        assert client.get_turn(TURN) == {"state": "streaming"}
        assert client.cancel(TURN) == {"state": "streaming"}
        with pytest.raises(TurnRejected, match="Not Found"):
            client.get_turn("nope")
    assert [seen[:2] for seen in server.seen[:2]] == [("GET", f"/v1/turns/{TURN}"), ("POST", f"/v1/turns/{TURN}/cancel")]
