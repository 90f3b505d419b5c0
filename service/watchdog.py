"""One thread that watches every deadline of the process.

A watch calls its callback once, at or shortly after its due time, unless it was cancelled or moved on. Moving a watch is one assignment, cheap enough for
every chunk of a stream: the thread looks at the due time again when the old one comes.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable

from service.clock import Clock

logger = logging.getLogger(__name__)


class Watch:
    """One deadline. `due_ns` (monotonic) may be moved later at any time by its owner."""

    __slots__ = ("callback", "cancelled", "due_ns")

    def __init__(self, due_ns: int, callback: Callable[[], None]) -> None:
        self.due_ns = due_ns
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        """The callback will not be called any more, unless it is being called now."""
        self.cancelled = True
        self.callback = _nothing  # the entry stays until its time comes; what it refers to need not


def _nothing() -> None:
    pass


class Watchdog:
    """Calls back when a deadline passes. Callbacks run in its thread: they must be quick and must not raise."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._changed = threading.Condition()
        self._heap: list[tuple[int, int, Watch]] = []
        self._order = itertools.count()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def watch(self, due_ns: int, callback: Callable[[], None]) -> Watch:
        """Calls `callback` once the monotonic clock has reached `due_ns`."""
        watch = Watch(due_ns, callback)
        with self._changed:
            heapq.heappush(self._heap, (due_ns, next(self._order), watch))
            if self._heap[0][2] is watch:  # else the thread wakes sooner anyway, and a turn's text need not wait behind it
                self._changed.notify()
        return watch

    def close(self) -> None:
        """Ends the thread. Watches that are not due are forgotten."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (watch := self._next_due()) is not None:
            try:
                watch.callback()
            except Exception:  # the boundary of this thread: one bad callback must not end the watch over all turns
                logger.exception("a watchdog callback failed")

    def _next_due(self) -> Watch | None:
        with self._changed:
            while not self._closed:
                if not self._heap:
                    self._changed.wait()
                    continue
                _, _, watch = self._heap[0]
                now = self._clock.mono_ns()
                if watch.cancelled:
                    heapq.heappop(self._heap)
                elif self._heap[0][0] > now:
                    self._changed.wait((self._heap[0][0] - now) / 1e9)
                elif watch.due_ns > now:  # it was moved: look again when the new time comes
                    heapq.heapreplace(self._heap, (watch.due_ns, next(self._order), watch))
                else:
                    heapq.heappop(self._heap)
                    return watch
            return None
