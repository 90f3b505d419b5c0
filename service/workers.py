"""The bounded set of worker threads: a turn has one for itself while it runs, never the default executor.

Owns the count and the threads. Admission never waits: where the set is full the caller answers 503; and where a thread has to be started, another thread
waits for it to run, for the caller is an event loop with a hundred streams. A thread whose turn has ended takes the next one that comes, or ends.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable

logger = logging.getLogger(__name__)

IDLE_S = 0.5
"""How long a thread waits for its next turn. The contract lets no thread outlive its turn by more than a second."""
RETRY_S = 0.1
"""Before a thread that the system refused is asked for again."""


class WorkerPool:
    """At most `capacity` workers at a time."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        lock = threading.Lock()
        self._work = threading.Condition(lock)  # something waits for a thread that idles
        self._need = threading.Condition(lock)  # something waits and no thread idles
        self._ended = threading.Condition(lock)
        self._waiting: deque[tuple[Callable[[], None], str]] = deque()
        self._active = 0
        self._threads = 0  # that run, idle or are being started
        self._closed = False
        threading.Thread(target=self._hire, name="hire", daemon=True).start()

    @property
    def active(self) -> int:
        """Workers that are running."""
        return self._active

    def try_start(self, work: Callable[[], None], name: str) -> bool:
        """Has the work done in a thread of its own; false where the set is full or closed."""
        with self._work:
            if self._closed or self._active >= self.capacity:
                return False
            self._active += 1
            self._waiting.append((work, name))
            (self._need if self._threads < self._active else self._work).notify()
        return True

    def _hire(self) -> None:
        """Starts threads: as many as there is work."""
        while True:
            with self._need:
                while self._threads >= self._active:
                    if self._closed:
                        return
                    self._need.wait()
                self._threads += 1
            try:
                threading.Thread(target=self._serve, daemon=True).start()
            except RuntimeError:
                logger.exception("no thread could be started; a turn waits")
                with self._need:
                    self._threads -= 1
                time.sleep(RETRY_S)

    def _serve(self) -> None:
        _preempt_nobody()
        while (next_one := self._next()) is not None:
            work, threading.current_thread().name = next_one
            try:
                work()
            except BaseException:  # the boundary of the thread, which goes on
                logger.exception("a worker ended with an unexpected error")
            finally:
                del work, next_one  # a thread that idles holds no turn
                with self._ended:
                    self._active -= 1
                    self._ended.notify_all()

    def _next(self) -> tuple[Callable[[], None], str] | None:
        """What a thread does next; None where it is to end."""
        until = time.monotonic() + IDLE_S
        with self._work:
            while not self._waiting:
                left = until - time.monotonic()
                if left <= 0 or self._closed:
                    self._threads -= 1
                    return None
                self._work.wait(left)
            return self._waiting.popleft()

    def close(self, timeout_s: float) -> int:
        """Admits nobody any more and waits for the workers; the number that still run after `timeout_s`."""
        end = time.monotonic() + timeout_s
        with self._ended:
            self._closed = True
            self._work.notify_all()
            self._need.notify()
            while self._active and (left := end - time.monotonic()) > 0:
                self._ended.wait(left)
            return self._active


def _preempt_nobody() -> None:
    """Lets this thread wait when it wakes, and not take the core from the one that runs: that one holds the interpreter, and perhaps a text on its way."""
    with contextlib.suppress(OSError):  # where it is forbidden all that is lost is time
        if sys.platform == "linux" and os.sched_getscheduler(0) == os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
