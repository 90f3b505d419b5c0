"""The turns that this process holds in memory: those that run, and those that ended a while ago, for replay.

Thread-safe. Bounded by the worker pool's capacity while they run, and by a time, a number and their bytes afterwards: what leaves is replayed from the
database.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from service.clock import Clock
from service.run.turn import Turn

MAX_ENDED = 4096


class TurnDirectory:
    """Finds turns by id."""

    def __init__(self, clock: Clock, retention_s: int, *, max_bytes: int, max_ended: int = MAX_ENDED) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._bytes = 0
        self._retention_ns = retention_s * 1_000_000_000
        self._max_ended = max_ended
        self._lock = threading.Lock()
        self._running: dict[str, Turn] = {}
        self._ended: OrderedDict[str, tuple[int, Turn]] = OrderedDict()

    def add(self, turn: Turn) -> None:
        """Takes a turn that begins."""
        with self._lock:
            self._running[turn.turn_id] = turn

    def end(self, turn: Turn, *, keep: bool) -> None:
        """A turn has ended; `keep` it for replay, or forget it at once."""
        now = self._clock.mono_ns()
        with self._lock:
            self._running.pop(turn.turn_id, None)
            if keep:
                self._ended[turn.turn_id] = (now, turn)
                self._bytes += turn.log.size_bytes
            self._prune(now)

    def find(self, turn_id: str) -> Turn | None:
        """The turn, where it is in memory."""
        with self._lock:
            self._prune(self._clock.mono_ns())
            running = self._running.get(turn_id)
            return running or self._ended.get(turn_id, (0, None))[1]

    def running(self) -> list[Turn]:
        """All turns that have not ended."""
        with self._lock:
            return list(self._running.values())

    def _prune(self, now: int) -> None:
        while self._ended:
            ended_ns, turn = next(iter(self._ended.values()))
            fits = len(self._ended) <= self._max_ended and self._bytes <= self._max_bytes
            if fits and now - ended_ns <= self._retention_ns:
                return
            self._ended.popitem(last=False)
            self._bytes -= turn.log.size_bytes
