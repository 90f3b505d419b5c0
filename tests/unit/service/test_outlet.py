"""The way into a connection past its event loop, on uvicorn as it is served, with each of its loops."""

import asyncio
import contextlib
import http.client
import random
import socket
import struct
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import uvicorn

from lastword.wire import HEARTBEAT
from service.http.outlet import SocketOutlet
from service.http.stream import event_stream
from service.server.uvicorn_server import _Protocol
from tests.unit.service.test_cursor import new_log
from tests.unit.service.test_log import TURN, chunk, error
from tests.unit.service.test_stream import Service

LIMIT_S = 20
DESCRIPTORS = Path("/proc/self/fd")


class Served:
    """A server whose every request follows the log that stands here."""

    def __init__(self, loop, *, heartbeat_ms=60_000):
        self.log = new_log()
        self.service = Service(heartbeat_ms=heartbeat_ms)
        self.loop = None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = self._socket.getsockname()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        config = uvicorn.Config(
            self._app, http=_Protocol, ws="none", loop=loop, interface="asgi3", lifespan="off", log_config=None
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=lambda: self._server.run(sockets=[self._socket]))

    async def _app(self, scope, receive, send):
        self.loop = asyncio.get_running_loop()
        turn = SimpleNamespace(turn_id=TURN, now_ns=lambda: 0)
        response = event_stream(self.service, turn, self.log.cursor(), b"", resumed_from=0)
        await response.to_asgi_response(None, None)(scope, receive, send)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.should_exit = True
        self._thread.join(LIMIT_S)
        assert not self._thread.is_alive()

    @contextlib.contextmanager
    def held_up(self):
        """Nothing is done in the server's event loop meanwhile."""
        held, free = threading.Event(), threading.Event()
        self.loop.call_soon_threadsafe(lambda: (held.set(), free.wait(LIMIT_S)))
        assert held.wait(LIMIT_S)
        try:
            yield
        finally:
            free.set()

    @contextlib.contextmanager
    def viewer(self, *, buffer_bytes=65_536):
        """A response whose head has come."""
        connection = http.client.HTTPConnection(*self.address, timeout=LIMIT_S)
        connection.sock = socket.socket()
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        connection.sock.settimeout(LIMIT_S)
        connection.sock.connect(self.address)
        connection.request("GET", "/")
        with contextlib.closing(connection), connection.getresponse() as response:
            yield response


def soon(condition):
    """Whether it comes true."""
    until = time.monotonic() + LIMIT_S
    while not (true := condition()) and time.monotonic() < until:
        time.sleep(0.01)
    return true


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request):
    return request.param


@pytest.fixture
def sent(monkeypatch):
    """What became of every piece that a worker tried to send."""
    seen = []
    send = SocketOutlet.send

    def watched(outlet, data):
        seen.append(send(outlet, data) and ("in part" if outlet.has_rest else "whole"))
        return bool(seen[-1])

    monkeypatch.setattr(SocketOutlet, "send", watched)
    return seen


def test_text_reaches_its_viewer_while_the_event_loop_is_held_up(loop):
    """It does not wait for what else the process does."""
    with Served(loop) as served, served.viewer() as response:
        assert response.read1() == served.log.frames_bytes
        time.sleep(0.05)  # the loop goes to sleep behind what it has sent
        with served.held_up():
            served.log.append(chunk(2))
            assert response.read1() == served.log.read(1)[0]
        served.log.append(error(3))
        assert response.read() == served.log.read(2)[0]


@pytest.mark.parametrize("seed", range(2))
def test_all_arrives_in_order_whoever_sends_it(loop, sent, seed):
    """A viewer who reads now fast and now slowly, pieces of any size, heartbeats between them, and two threads that show."""
    rng = random.Random(seed)
    with Served(loop, heartbeat_ms=2) as served, served.viewer(buffer_bytes=4096) as response:
        log = served.log
        stop = threading.Event()

        def stores():
            while not stop.is_set():
                log.publish(log.shown_seq)
                log.publish(log.last_seq)
                time.sleep(0.001)

        def speaks():
            try:
                for seq in range(2, 250):
                    calm = seq < 60  # the viewer keeps up; then they cannot
                    log.append(chunk(seq, "x" * rng.choice((1, 10) if calm else (300, 30_000))))
                    time.sleep(0.004 if calm else rng.choice((0, 0, 0.001, 0.004)))
            finally:
                stop.set()
            log.append(error(250))

        threads = [threading.Thread(target=work) for work in (stores, speaks)]
        for thread in threads:
            thread.start()
        body = b""
        while piece := response.read1(rng.choice((100, 5_000, 50_000))):
            body += piece
            time.sleep(rng.choice((0, 0.003)) if len(body) > 50_000 else 0)
        for thread in threads:
            thread.join(LIMIT_S)
        assert body.replace(HEARTBEAT, b"") == log.frames_bytes
        assert 20 < sum(map(bool, sent)) < 200, "one of the two ways was hardly taken"


def test_connection_serves_the_next_request_and_every_descriptor_comes_back(loop):
    """What was sent past the loop is framed as the server frames it: the connection is of use behind it."""
    with Served(loop) as served:
        with served.viewer() as first:
            first.read1()
            served.log.append(error(2))
            first.read()
        before = len(list(DESCRIPTORS.iterdir()))
        connection = http.client.HTTPConnection(*served.address, timeout=LIMIT_S)
        for _ in range(20):
            served.log = new_log()
            connection.request("GET", "/")
            response = connection.getresponse()
            assert response.read1()
            time.sleep(0.01)
            served.log.append(chunk(2))
            served.log.append(error(3))
            assert response.read().endswith(served.log.read(2)[0])
        connection.close()
        assert soon(lambda: served.log.viewers == 0)
        assert soon(lambda: len(list(DESCRIPTORS.iterdir())) <= before)


def test_clients_that_leave_cost_nothing_and_hold_up_nobody(loop):
    """A worker that writes to a connection that has gone goes on."""
    with Served(loop) as served:
        with served.viewer() as response:
            response.read1()
        for seq in range(2, 200):
            served.log.append(chunk(seq, "x" * 1000))
        assert soon(lambda: served.log.viewers == 0)


def test_client_that_goes_in_the_middle_of_a_piece_is_no_error(loop, sent, caplog):
    """What the socket had not taken is forgotten with the connection."""
    with Served(loop) as served:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a close is a reset
            client.connect(served.address)
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert soon(lambda: served.log.viewers)
            time.sleep(0.1)
            hold = contextlib.ExitStack()
            hold.enter_context(served.held_up())
            for seq in range(2, 1000):
                served.log.append(chunk(seq, "x" * 30_000))
                if "in part" in sent:
                    break
            assert "in part" in sent
        with hold:
            time.sleep(0.05)
        assert soon(lambda: served.log.viewers == 0)
    assert "Exception" not in caplog.text
