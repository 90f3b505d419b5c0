"""A cursor that a worker serves in the place of its event loop: who sends, who is woken, and who gives the way in back."""

import asyncio
import threading

import pytest

from service.log import MAX_READ_BYTES, TurnLog
from tests.unit.service.test_log import TURN, ack, chunk, error


class FakeOutlet:
    """Takes what it is given, in whole or in part, once it is let."""

    def __init__(self):
        self.entries = 0
        self.sent = []
        self.rest = b""
        self.settled = []
        self.closed = 0
        self.at_most = 1 << 20
        self.busy = False
        self.failing = False
        self.entered = threading.Event()
        self.let = threading.Event()
        self.let.set()

    def send(self, data):
        assert not self.closed, "sent behind the end"
        self.entries += 1
        self.entered.set()
        assert self.let.wait(5)
        if self.failing:
            raise AttributeError("no way in")
        if self.at_most == 0:
            return False
        self.sent.append(data[: self.at_most])
        self.rest = data[self.at_most :]
        return True

    @property
    def is_clear(self):
        return not self.busy

    @property
    def has_rest(self):
        return bool(self.rest)

    def settle(self):
        self.settled.append(self.rest)
        self.rest = b""

    def close(self):
        self.closed += 1


def shown_at_once(log):
    piece = log.unshown()
    if piece is not None:  # another thread may have shown it
        log.show(piece)


def new_log():
    log = TurnLog(TURN, 100_000_000, shown_at_once, is_ahead=True)
    log.append(ack())
    return log


async def waiting(log, outlet, timeout_s=5.0):
    """A cursor that has read everything and waits, and the task that waits."""
    cursor = log.cursor(log.last_seq)
    cursor.use(lambda: outlet)
    task = asyncio.create_task(cursor.next(timeout_s))
    await asyncio.sleep(0)
    return cursor, task


async def in_thread(work):
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_worker_sends_to_a_viewer_that_has_everything_before():
    """The loop is not needed for it, and reads on behind it."""

    async def main():
        log, outlet = new_log(), FakeOutlet()
        cursor, task = await waiting(log, outlet)
        log.append(chunk(2))
        log.append(chunk(3))
        assert outlet.sent == [log.read(1, 1)[0], log.read(2, 1)[0]]
        await asyncio.sleep(0.02)
        assert (cursor.seq, task.done()) == (3, False)
        log.append(error(4))
        assert await asyncio.wait_for(task, 5) == log.read(3, 1)[0]
        assert await cursor.next(1) is None
        cursor.close()
        assert outlet.closed == 1

    asyncio.run(main())


def test_loop_sends_where_the_way_past_it_takes_nothing():
    """Nothing is lost, nothing comes twice."""

    async def main():
        log, outlet = new_log(), FakeOutlet()
        cursor, task = await waiting(log, outlet)
        outlet.at_most = 0
        log.append(chunk(2))
        assert await asyncio.wait_for(task, 5) == log.read(1, 1)[0]
        log.append(chunk(3))  # the loop has not come back for more: it sends this one too
        assert await cursor.next(1) == log.read(2, 1)[0]
        assert outlet.sent == []
        cursor.close()

    asyncio.run(main())


def test_what_goes_wrong_with_one_viewer_does_not_end_the_turn(caplog):
    """The loop sends, and the log says what it was."""

    async def main():
        log, outlet = new_log(), FakeOutlet()
        cursor, task = await waiting(log, outlet)
        outlet.failing = True
        log.append(chunk(2))
        assert await asyncio.wait_for(task, 5) == log.read(1, 1)[0]
        cursor.close()
        assert outlet.closed == 1

    asyncio.run(main())
    assert "no way in" in caplog.text


def test_nothing_is_sent_past_bytes_that_the_loop_has_not_sent_yet():
    """Once they have gone, a worker sends again; where they never go the loop goes on."""

    async def main():
        log, outlet = new_log(), FakeOutlet()
        outlet.busy = True
        cursor, task = await waiting(log, outlet)
        outlet.busy = False
        await asyncio.sleep(0)
        log.append(chunk(2))
        assert outlet.sent == [log.read(1, 1)[0]]
        outlet.at_most = 0
        log.append(chunk(3))
        assert await asyncio.wait_for(task, 5) == log.read(2, 1)[0]
        outlet.busy, outlet.at_most = True, 1 << 20
        task = asyncio.create_task(cursor.next(5))
        await asyncio.sleep(0.02)
        log.append(chunk(4))
        assert await asyncio.wait_for(task, 5) == log.read(3, 1)[0]
        assert len(outlet.sent) == 1
        cursor.close()

    asyncio.run(main())


def test_large_pieces_are_sent_by_the_loop():
    """It sends no more at a time than may wait for one viewer."""

    async def main():
        log, outlet = new_log(), FakeOutlet()
        cursor, task = await waiting(log, outlet)
        log.append(chunk(2, "x" * MAX_READ_BYTES))
        assert await asyncio.wait_for(task, 5) == log.read(1, 1)[0]
        assert outlet.sent == []
        cursor.close()

    asyncio.run(main())


def test_loop_hands_over_the_rest_of_what_was_taken_in_part():
    """Before anything else is sent."""

    async def main():
        log, outlet = new_log(), FakeOutlet()
        cursor, task = await waiting(log, outlet)
        outlet.at_most = 5
        log.append(chunk(2))
        log.append(chunk(3))
        assert await asyncio.wait_for(task, 5) == log.read(2, 1)[0]
        assert outlet.sent[0] + outlet.settled[0] == log.read(1, 1)[0]
        assert (len(outlet.sent), len(outlet.settled)) == (1, 1)
        cursor.close()

    asyncio.run(main())


def test_loop_does_not_send_while_a_worker_does():
    """Neither frames that others show meanwhile nor a heartbeat: they would stand in the middle of the worker's."""

    async def main():
        log, outlet = new_log(), FakeOutlet()
        _, task = await waiting(log, outlet, timeout_s=0.02)
        outlet.let.clear()
        worker = await in_thread(lambda: log.append(chunk(2)))
        assert await asyncio.to_thread(outlet.entered.wait, 5)
        other = await in_thread(lambda: log.append(chunk(3)))
        await asyncio.sleep(0.1)
        assert not task.done()
        outlet.let.set()
        assert await asyncio.wait_for(task, 5) == log.read(2, 1)[0]
        assert outlet.sent == [log.read(1, 1)[0]]
        worker.join(5)
        other.join(5)

    asyncio.run(main())


def test_claim_that_comes_late_sends_nothing():
    """The frame was sent meanwhile: not once more, and no empty piece, which would end the response."""

    async def main():
        log, outlet = new_log(), FakeOutlet()
        cursor, task = await waiting(log, outlet)
        log.append(chunk(2))
        assert not cursor.send(2, 2, log.read(1, 1)[0])
        assert (outlet.sent, cursor.seq) == ([log.read(1, 1)[0]], 2)
        task.cancel()
        cursor.close()

    asyncio.run(main())


def test_one_worker_sends_at_a_time():
    """Another is turned away, and wakes the loop."""

    async def main():
        log, outlet = new_log(), FakeOutlet()
        cursor, task = await waiting(log, outlet)
        outlet.let.clear()
        worker = await in_thread(lambda: log.append(chunk(2)))
        assert await asyncio.to_thread(outlet.entered.wait, 5)
        assert not await asyncio.to_thread(cursor.send, 3, 3, b"frame")
        assert outlet.entries == 1
        outlet.let.set()
        await asyncio.to_thread(worker.join, 5)
        task.cancel()
        cursor.close()

    asyncio.run(main())


def test_silence_begins_anew_with_what_a_worker_sent():
    """A heartbeat stands where nothing else came."""

    async def main():
        log, outlet = new_log(), FakeOutlet()
        cursor, task = await waiting(log, outlet, timeout_s=0.2)
        begun = cursor.loop.time()
        await asyncio.sleep(0.15)
        log.append(chunk(2))
        assert await asyncio.wait_for(task, 5) == b""
        assert cursor.loop.time() - begun >= 0.34
        cursor.close()

    asyncio.run(main())


def test_way_in_is_given_back_once_behind_a_viewer_that_left_while_a_worker_sent():
    """Not before the worker is through with it."""

    async def main():
        log, outlet = new_log(), FakeOutlet()
        cursor, task = await waiting(log, outlet)
        outlet.let.clear()
        worker = await in_thread(lambda: log.append(chunk(2)))
        assert await asyncio.to_thread(outlet.entered.wait, 5)
        task.cancel()
        cursor.close()
        assert outlet.closed == 0
        outlet.let.set()
        await asyncio.to_thread(worker.join, 5)
        assert outlet.closed == 1
        log.append(chunk(3))
        assert outlet.sent == [log.read(1, 1)[0]]

    asyncio.run(main())


def test_worker_sends_to_the_first_viewers_only():
    """A turn that many look at is not held up by sending to all of them."""

    async def main():
        log = new_log()
        outlets = [FakeOutlet() for _ in range(3)]
        viewed = [await waiting(log, outlet) for outlet in outlets[:2]]
        log.append(chunk(2))
        assert [len(outlet.sent) for outlet in outlets] == [1, 1, 0]
        viewed.append(await waiting(log, outlets[2]))
        log.append(chunk(3))
        for cursor, task in viewed:
            assert await asyncio.wait_for(task, 5) == log.read(2, 1)[0]
            cursor.close()
        assert [len(outlet.sent) for outlet in outlets] == [1, 1, 0]

    asyncio.run(main())


@pytest.mark.parametrize("is_ahead", [True, False])
def test_nothing_is_opened_where_no_worker_will_send(is_ahead):
    """A turn that has ended, and one whose text waits for a commit before it is shown, come from the loop, whole."""

    async def main():
        log = new_log() if is_ahead else TurnLog(TURN, 10_000)
        if not is_ahead:
            log.append(ack())
            log.cursor().use(lambda: 1 / 0)
        log.append(error(2))
        cursor = log.cursor()
        cursor.use(lambda: 1 / 0)
        assert await cursor.next(1) == log.frames_bytes
        cursor.close()

    asyncio.run(main())
