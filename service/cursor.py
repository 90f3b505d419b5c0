"""A viewer's place in a turn's log, and the ways to tell it that there is more to read.

A cursor belongs to an event loop, which sends what it reads. The thread that shows a frame wakes it: one wake-up a loop, however many of its cursors have
something to read. Or it sends the frame itself, where the viewer has everything before it: the text then waits neither for the loop nor for the
interpreter. Invariants: at most one wake-up a cursor is in flight; only one thread at a time reads for a cursor and moves it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger(__name__)

SENT_AT_ONCE = 2
"""Cursors of a log that the thread which shows a frame serves by itself. More than these would hold up the turn, so their event loop does it."""
_SHORTEST_S = 0.001
"""Until a cursor looks again whether the worker is through that sends while its time is up."""
_RUNG_AT_ONCE = 4
"""Cursors that are woken in one turn of the event loop: what a person waits for need not wait for all of them."""


class Readable(Protocol):
    """The log, as far as a cursor needs it."""

    @property
    def closed(self) -> bool:
        """Whether nothing can come any more."""
        ...

    @property
    def is_ahead(self) -> bool:
        """Whether what is appended may be shown by the thread that appended it."""
        ...

    @property
    def shown_seq(self) -> int:
        """The sequence number of the newest frame that can be read."""
        ...

    @property
    def viewers(self) -> int:
        """How many cursors are open."""
        ...

    def read(self, after: int) -> tuple[bytes, int]:
        """Frames behind a sequence number, joined, and the sequence number of the last one."""
        ...

    def forget(self, cursor: Cursor) -> None:
        """Stops waking this cursor."""
        ...


class Outlet(Protocol):
    """A way into a connection past its event loop."""

    def send(self, data: bytes) -> bool:
        """Hands a piece to the connection at once, from any thread, and never waits; false where nothing of it was taken. What is over of it stays here."""
        ...

    @property
    def is_clear(self) -> bool:
        """Whether the event loop has handed over all that it had to send; asked in its thread."""
        ...

    @property
    def has_rest(self) -> bool:
        """Whether a piece was taken in part."""
        ...

    def settle(self) -> None:
        """Hands the rest to the event loop, in its thread."""
        ...

    def close(self) -> None:
        """Nothing is sent this way any more."""
        ...


class Cursor:
    """One viewer's place in a log. It belongs to an event loop; while that waits, a worker that has claimed the wake-up may send in its place.

    Invariant: only one of them reads and moves `seq` at a time.
    """

    def __init__(self, log: Readable, lock: threading.Lock, after: int, loop: asyncio.AbstractEventLoop) -> None:
        self._log = log
        self._lock = lock
        self.loop = loop
        self._ready = False
        self._sleeper: asyncio.Future[None] | None = None
        self._until = 0.0  # by the loop's clock: how long it sleeps
        self._rings_at = 0.0  # and when the timer rings, perhaps sooner: it may have been set for an earlier sleep
        self._timer: asyncio.TimerHandle | None = None
        self._notified = False
        self._outlet: Outlet | None = None
        self._asleep = False  # the loop has sent all that it had read, and waits: a worker may send in its place
        self._sending = False  # a worker sends in its place
        self._sent_at = -math.inf  # by the monotonic clock: when one did last
        self._timeout_s = 0.0
        self.seq = after

    def use(self, open_outlet: Callable[[], Outlet | None]) -> None:
        """From now on what is shown may be sent past the event loop. Asked for where something may still come, and for the first viewers of a turn only."""
        if self._outlet is None and self._log.is_ahead and not self._log.closed and self._log.viewers <= SENT_AT_ONCE:
            self._outlet = open_outlet()

    def mark_notified(self) -> bool:
        """Claims the one wake-up in flight; false where one is on its way. Called by the log, under its lock."""
        claimed = not self._notified
        self._notified = True
        return claimed

    def send(self, first_seq: int, last_seq: int, frames: bytes) -> bool:
        """Sends what was shown, and what else can be read, in the thread that has claimed the wake-up; false where the loop is to be woken all the same."""
        with self._lock:
            outlet = self._outlet
            if outlet is None or not self._asleep or self._sending:
                return False
            self._sending = True
        sent = False
        try:
            data, end = (frames, last_seq) if self.seq + 1 == first_seq else self._log.read(self.seq)
            if data:  # else the loop has been here since the claim
                sent = outlet.send(data)
        except Exception:  # the boundary to a connection: what goes wrong with one viewer must not end the turn
            logger.exception("a piece of text could not be sent past the event loop")
        with self._lock:
            self._sending = False
            closed = self._outlet is None
            if sent:
                self.seq, self._sent_at = end, time.monotonic()
            done = sent and not outlet.has_rest and end == self._log.shown_seq and not self._log.closed
            self._notified = not done
        if closed:  # the viewer has left meanwhile
            outlet.close()
        return done

    def ring(self) -> None:
        """There may be something to read, or the time is up. Called in the cursor's loop."""
        self._ready = True
        if self._sleeper is not None and not self._sleeper.done():
            self._sleeper.set_result(None)

    async def next(self, timeout_s: float) -> bytes | None:
        """The next frames, joined; empty after `timeout_s` of silence; None once the log has ended and everything was read."""
        until = self.loop.time() + timeout_s
        self._timeout_s = timeout_s
        while True:
            self._ready = False
            if self._take_back():
                closed = self._log.closed  # read before the frames: what came in between is found by the next round
                data, self.seq = self._log.read(self.seq)
                if data:
                    return data
                if closed:
                    return None
                if self._left_s(until) <= 0:
                    return b""
            await self._sleep(until)

    def _take_back(self) -> bool:
        """Nobody but the loop sends from now on; false where a worker is at it, who wakes the loop or leaves it nothing to do."""
        with self._lock:
            self._asleep = False
            if self._sending:
                return False
            self._notified = False
        if self._outlet is not None and self._outlet.has_rest:
            self._outlet.settle()
        return True

    def _left_s(self, until: float) -> float:
        """How much longer the silence may last, in seconds: it begins anew with all that a worker has sent."""
        return max(until - self.loop.time(), self._sent_at + self._timeout_s - time.monotonic())

    async def _sleep(self, until: float) -> None:
        """Waits for `ring`. One timer that rings now and then: one for each piece of text would cost more than the piece."""
        if self._ready:
            return
        self._until = until
        if self._timer is not None and until < self._rings_at:
            self._timer.cancel()
            self._timer = None
        if self._timer is None:
            self._set_timer()
        self._sleeper = self.loop.create_future()
        if self._outlet is not None and not self._fall_asleep():
            self.loop.call_soon(self._fall_asleep)  # a loop may send what it was given when it has nothing else to do
        try:
            await self._sleeper
        finally:
            self._sleeper = None

    def _fall_asleep(self) -> bool:
        """Lets workers send from now on; false where bytes of the loop's own still wait: what is behind them is the loop's too."""
        if self._sleeper is None or self._sleeper.done() or self._outlet is None or not self._outlet.is_clear:
            return False
        with self._lock:
            self._asleep = True
        return True

    def _look(self) -> None:
        """The timer has rung: it may be that of an earlier sleep."""
        self._timer = None
        if self._sleeper is None:
            return
        if self._left_s(self._until) <= 0:
            self.ring()
        else:
            self._set_timer()

    def _set_timer(self) -> None:
        self._rings_at = self.loop.time() + max(self._left_s(self._until), _SHORTEST_S)
        self._timer = self.loop.call_at(self._rings_at, self._look)

    def close(self) -> None:
        """Leaves the log."""
        self._log.forget(self)
        with self._lock:
            outlet, self._outlet = self._outlet, None
            self._asleep = False
            sending = self._sending
        if outlet is not None and not sending:
            outlet.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def wake(cursors: list[Cursor]) -> None:
    """Wakes readers, from any thread. A wake-up of a loop costs a system call and a change of threads: one a loop, not one a cursor."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Cursor]] = {}
    for cursor in cursors:
        by_loop.setdefault(cursor.loop, []).append(cursor)
    for loop, woken in by_loop.items():
        try:
            loop.call_soon_threadsafe(_ring, woken)
        except RuntimeError:  # the loop is gone, and the viewers with it
            for cursor in woken:
                cursor.close()


def _ring(cursors: list[Cursor]) -> None:
    for cursor in cursors[:_RUNG_AT_ONCE]:
        cursor.ring()
    rest = cursors[_RUNG_AT_ONCE:]
    if rest:
        rest[0].loop.call_soon(_ring, rest)
