"""The turn's log: the bridge between the worker's thread and the event loop."""

import asyncio
import threading

import pytest

from lastword.events import Ack, Chunk, Error, ErrorMetadata, Reason, ServiceInfo, Timings
from lastword.wire import decode_stream
from service.clock import as_datetime
from service.log import LogClosed, LogFull, TurnLog

TURN = "trn_" + "0" * 32
INFO = ServiceInfo(name="t", version="0", instance="i")


def ack():
    return Ack(
        turn_id=TURN,
        seq=1,
        t_ms=0,
        trace_id="0" * 32,
        route="r",
        model_tier="t",
        conversation_id="c",
        deadline_ms=1,
        heartbeat_ms=1,
        on_disconnect="continue",
        resume_url="/",
    )


def chunk(seq, text="x"):
    return Chunk(turn_id=TURN, seq=seq, t_ms=0, text=text)


def error(seq):
    metadata = ErrorMetadata(
        reason=Reason.DEADLINE, started_at=as_datetime(0), stage_timings=Timings(first_token_ms=None, total_ms=0), service=INFO
    )
    return Error(turn_id=TURN, seq=seq, t_ms=0, code="deadline", message="m", retryable=True, metadata=metadata)


async def read_all(log, after=0):
    cursor = log.cursor(after)
    pieces = []
    while (data := await cursor.next(5)) is not None:
        assert data, "the log was silent for 5 s"
        pieces.append(data)
    cursor.close()
    return b"".join(pieces)


def test_log_gives_every_viewer_the_same_bytes_while_it_is_written():
    """Viewers that join before, during and after the writing all read the same log, whole."""
    log = TurnLog(TURN, 10_000_000)
    total = 2000

    def write():
        log.append(ack())
        for n in range(total):
            log.append(chunk(n + 2, f"{n} "))
        log.append(error(total + 2))

    async def scenario():
        early = [asyncio.create_task(read_all(log)) for _ in range(5)]
        await asyncio.sleep(0)
        thread = threading.Thread(target=write)
        thread.start()
        middle = await read_all(log)
        thread.join(10)
        return [*[await task for task in early], middle, await read_all(log)]

    first, *others = asyncio.run(scenario())
    assert all(other == first for other in others)
    assert [event.seq for event in decode_stream(first)] == list(range(1, total + 3))


@pytest.mark.parametrize("sleeps", [(30, 0.05), (0.05, 0.05, 0.1), (0.03, 0.2)])
def test_silence_is_told_when_it_was_asked_for(sleeps):
    """Whatever was asked for before: one timer serves all sleeps of a cursor."""
    log = TurnLog(TURN, 600)

    async def scenario():
        cursor = log.cursor()
        first = asyncio.create_task(cursor.next(sleeps[0]))
        await asyncio.sleep(0)
        log.append(ack())
        assert await first
        for seconds in sleeps[1:]:
            begun = cursor.loop.time()
            assert await asyncio.wait_for(cursor.next(seconds), 5) == b""
            assert cursor.loop.time() - begun >= seconds - 0.01
        cursor.close()

    asyncio.run(scenario())


def test_log_resumes_behind_any_event():
    """What a cursor read before and what it reads after resuming join to the whole log, at every cut."""
    log = TurnLog(TURN, 10_000)
    log.append(ack())
    log.append(chunk(2))
    log.append(error(3))
    whole = asyncio.run(read_all(log))
    for after in range(4):
        head, _ = log.read(0, 1)
        frames = [log.read(n, 1)[0] for n in range(after)]
        assert b"".join(frames) + asyncio.run(read_all(log, after)) == whole
        assert whole.startswith(head)


def test_log_takes_one_terminal():
    """The first terminal wins; nothing can be appended behind it."""
    log = TurnLog(TURN, 10_000)
    log.append(ack())
    log.append(error(2))
    with pytest.raises(LogClosed):
        log.append(error(3))
    assert (log.last_seq, log.terminal) == (2, error(2))


def test_log_refuses_a_gap():
    """Sequence numbers are contiguous."""
    log = TurnLog(TURN, 10_000)
    log.append(ack())
    with pytest.raises(ValueError, match="seq 3 after 1"):
        log.append(chunk(3))


def test_log_is_bounded_but_always_takes_the_terminal():
    """Beyond its limit the log refuses chunks, never the terminal."""
    log = TurnLog(TURN, 600)
    log.append(ack())
    with pytest.raises(LogFull):
        for seq in range(2, 100):
            log.append(chunk(seq))
    log.append(error(log.last_seq + 1))
    assert log.closed


def test_log_ends_waiting_viewers_of_a_rejected_turn():
    """A turn that was refused before its ack lets its waiting request go."""
    log = TurnLog(TURN, 600)

    async def scenario():
        task = asyncio.create_task(read_all(log))
        await asyncio.sleep(0)
        log.close()
        return await asyncio.wait_for(task, 5)

    assert asyncio.run(scenario()) == b""


def test_cursor_tells_silence_from_the_end():
    """Silence is an empty read, which becomes a heartbeat; the end is None."""
    log = TurnLog(TURN, 600)

    async def scenario():
        cursor = log.cursor()
        silent = await cursor.next(0.01)
        log.append(ack())
        log.append(error(2))
        return silent, await cursor.next(5), await cursor.next(5)

    silent, data, end = asyncio.run(scenario())
    assert silent == b""
    assert len(decode_stream(data)) == 2
    assert end is None
