"""The response that follows a log: what it sends, when it gives up, and whom it tells."""

import asyncio
from types import SimpleNamespace

import pytest

from lastword.wire import HEARTBEAT
from service.http.outlet import TRANSPORT
from service.http.stream import event_stream, stored_stream
from service.log import MAX_READ_BYTES, TurnLog
from tests.unit.service.test_log import TURN, ack, chunk, error

BIG = b"x" * (3 * MAX_READ_BYTES + 1)


class Connection:
    """One client: an ASGI `send` that may block, a `receive` that tells when it leaves, and a transport."""

    def __init__(self, *, stuck_after=None):
        self.sent = []
        self.left = asyncio.Event()
        self.stuck_after = stuck_after
        self.waiting = 0
        self.aborted = 0
        self.released = asyncio.Event()

    async def receive(self):
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if self.stuck_after is not None and len(self.sent) > self.stuck_after:
            await self.released.wait()
        self.sent.append(message)
        if self.stuck_after is not None and len(self.sent) > self.stuck_after:
            self.waiting = 65_536  # what was sent just now stays in the server's buffer

    def get_write_buffer_size(self):
        return self.waiting

    def abort(self):
        self.aborted += 1
        self.released.set()
        self.left.set()

    @property
    def body(self):
        return b"".join(message["body"] for message in self.sent[1:])

    @property
    def complete(self):
        return bool(self.sent) and self.sent[-1].get("more_body") is False


class Service:
    """As much of the service as a response needs."""

    def __init__(self, *, send_timeout_ms=5000, heartbeat_ms=5000):
        self.deps = SimpleNamespace(settings=SimpleNamespace(send_timeout_ms=send_timeout_ms, heartbeat_ms=heartbeat_ms))
        self.metrics = SimpleNamespace(viewer_dropped=lambda: self.dropped.append(1))
        self.streams = 0
        self.dropped = []
        self.left = []

    def viewer_left(self, turn, cursor, *, joined_ns, resumed_from):
        cursor.close()
        self.left.append(cursor.seq)


class Viewed:
    """A turn's log, a service and a connection, and the response between them."""

    def __init__(self, *, stuck_after=None, transport=True, **settings):
        self.log = TurnLog(TURN, 10_000_000)
        self.log.append(ack())
        self.service = Service(**settings)
        self.connection = Connection(stuck_after=stuck_after)
        self.extensions = {TRANSPORT: self.connection} if transport else {}

    def begin(self, response=None):
        if response is None:
            turn = SimpleNamespace(turn_id=TURN, now_ns=lambda: 0)
            response = event_stream(self.service, turn, self.log.cursor(), b"", resumed_from=0)
        answer = response.to_asgi_response(None, None)
        scope = {"type": "http", "extensions": self.extensions}
        return asyncio.create_task(answer(scope, self.connection.receive, self.connection.send))

    async def until(self, condition):
        async with asyncio.timeout(5):
            while True:
                if condition():
                    return
                await asyncio.sleep(0.001)


def test_stream_sends_the_whole_log_and_says_once_that_the_viewer_left():
    """The head, every frame as it comes, a clean end."""

    async def main():
        viewed = Viewed()
        running = viewed.begin()
        viewed.log.append(chunk(2))
        await viewed.until(lambda: b"chunk" in viewed.connection.body)
        assert viewed.service.streams == 1
        viewed.log.append(error(3))
        await asyncio.wait_for(running, 5)
        assert viewed.connection.body == viewed.log.frames_bytes
        assert viewed.connection.complete
        assert (viewed.service.left, viewed.service.streams, viewed.log.viewers) == ([3], 0, 0)

    asyncio.run(main())


def test_stream_sends_heartbeats_while_the_log_is_silent():
    """They stand between the frames."""

    async def main():
        viewed = Viewed(heartbeat_ms=5)
        running = viewed.begin()
        await viewed.until(lambda: viewed.connection.body.count(HEARTBEAT) >= 2)
        viewed.log.append(error(2))
        await asyncio.wait_for(running, 5)
        assert viewed.connection.body.replace(HEARTBEAT, b"") == viewed.log.frames_bytes

    asyncio.run(main())


def test_stream_ends_at_once_when_the_client_leaves_a_silent_turn():
    """Nothing has to be sent to notice it."""

    async def main():
        viewed = Viewed(heartbeat_ms=60_000)
        running = viewed.begin()
        await viewed.until(lambda: viewed.connection.body)
        viewed.connection.left.set()
        await asyncio.wait_for(running, 1)
        assert not viewed.connection.complete
        assert (viewed.service.left, viewed.service.streams, viewed.service.dropped) == ([1], 0, [])

    asyncio.run(main())


@pytest.mark.parametrize("transport", [True, False])
def test_stuck_viewer_is_dropped_without_a_terminal(transport):
    """With the server's transport its connection is cut; without, the response just ends."""

    async def main():
        viewed = Viewed(stuck_after=1, transport=transport, send_timeout_ms=40)
        running = viewed.begin()
        await viewed.until(lambda: viewed.connection.body)
        viewed.log.append(error(2))
        await asyncio.wait_for(running, 5)
        assert not viewed.connection.complete
        assert viewed.connection.aborted == (1 if transport else 0)
        assert viewed.service.dropped == [1]
        assert (len(viewed.service.left), viewed.service.streams, viewed.log.viewers) == (1, 0, 0)

    asyncio.run(main())


def test_slow_viewer_that_reads_on_is_kept():
    """Taking a few bytes within the timeout counts as reading, however long one piece takes."""

    async def main():
        viewed = Viewed(stuck_after=1, send_timeout_ms=80)
        running = viewed.begin()
        await viewed.until(lambda: viewed.connection.body)
        viewed.log.append(error(2))
        for _ in range(20):  # together far longer than the timeout
            await asyncio.sleep(0.01)
            viewed.connection.waiting -= 1
        assert not viewed.service.dropped
        viewed.connection.released.set()
        await asyncio.wait_for(running, 5)
        assert viewed.connection.complete
        assert viewed.connection.body == viewed.log.frames_bytes

    asyncio.run(main())


def test_large_piece_is_sent_in_parts_that_a_stuck_viewer_may_hold():
    """A stored log, or one huge frame, never waits whole in the server's buffer."""

    async def main():
        viewed = Viewed()
        await asyncio.wait_for(viewed.begin(stored_stream(viewed.service, TURN, BIG)), 5)
        assert viewed.connection.body == BIG
        assert max(len(message["body"]) for message in viewed.connection.sent[1:]) == MAX_READ_BYTES

    asyncio.run(main())


def test_server_that_cancels_a_response_cancels_it():
    """The viewer is told as left, and the cancellation is not swallowed."""

    async def main():
        viewed = Viewed(heartbeat_ms=60_000)
        running = viewed.begin()
        await viewed.until(lambda: viewed.connection.body)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert viewed.service.left == [1]

    asyncio.run(main())


def test_client_that_left_before_the_head_is_told_as_left():
    """A response that is never written tells its reader all the same."""

    async def main():
        viewed = Viewed()

        async def broken(message):
            raise OSError("gone")

        viewed.connection.send = broken
        with pytest.raises(OSError, match="gone"):
            await viewed.begin()
        assert (len(viewed.service.left), viewed.service.streams) == (1, 0)

    asyncio.run(main())
