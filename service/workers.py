"""The bounded set of worker threads: one dedicated thread a turn, never the default executor.

Owns the count and the threads. Admission never waits: where the set is full the caller answers 503.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

logger = logging.getLogger(__name__)


class WorkerPool:
    """At most `capacity` workers at a time."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._changed = threading.Condition()
        self._active: set[threading.Thread] = set()
        self._closed = False

    @property
    def active(self) -> int:
        """Workers that are running."""
        return len(self._active)

    def try_start(self, work: Callable[[], None], name: str) -> bool:
        """Starts the work in a thread of its own; false where the set is full or closed."""
        thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        with self._changed:
            if self._closed or len(self._active) >= self.capacity:
                return False
            self._active.add(thread)
        thread.start()
        return True

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:  # the boundary of a worker thread: the turn's own boundary stands inside `work`
            logger.exception("a worker ended with an unexpected error")
        finally:
            with self._changed:
                self._active.discard(threading.current_thread())
                self._changed.notify_all()

    def close(self, timeout_s: float) -> int:
        """Admits nobody any more and waits for the workers; the number that still run after `timeout_s`."""
        end = time.monotonic() + timeout_s
        with self._changed:
            self._closed = True
            while self._active and (left := end - time.monotonic()) > 0:
                self._changed.wait(left)
            return len(self._active)
