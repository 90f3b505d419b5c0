"""When a query may run.

Queries, decoding and commits share a few cores, and senders do not wait for ever: where rows come in about as fast as they can be stored, queries run one after the other, with a rest twice as
long as the query before took. So they have about a third of the time. Invariant: nobody waits longer than `MOST_WAIT_S`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

REST = 2.0
"""How long queries rest, as a multiple of the time that the last one took."""
MOST_REST_S = 7.5
"""However long a query took, the next one may begin after so many seconds."""
MOST_WAIT_S = 8.0
"""Who has waited for so long is told to come again: less than what the dashboard and other callers wait for an answer."""
LOOK_S = 0.05


class Busy(Exception):
    """There was no turn in time."""


class Turns:
    """Gives queries their turns. `storing` says whether rows come in about as fast as they can be stored; where they do not, every query begins at once."""

    def __init__(
        self,
        storing: Callable[[], bool],
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._storing = storing
        self._clock = clock
        self._sleep = sleep
        self._alone = threading.Lock()
        self._rest_until = clock()

    def now(self) -> float:
        """When a query comes, for `turn`."""
        return self._clock()

    @contextmanager
    def turn(self, come: float) -> Iterator[None]:
        """Waits until a query that came at a time may run, which is the body.

        Raises:
            Busy: that would take too long.
        """
        if not self._storing():
            with self._timed():
                yield
            return
        if not self._alone.acquire(timeout=max(0.0, come + MOST_WAIT_S - self._clock())):
            raise Busy
        try:
            while self._storing() and (left := self._rest_until - self._clock()) > 0:
                if self._clock() + left > come + MOST_WAIT_S:
                    raise Busy
                self._sleep(min(left, LOOK_S))
            with self._timed():
                yield
        finally:
            self._alone.release()

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """Notes for how long the next ones have to rest. What began before much was stored, and ends after, counts too."""
        began = self._clock()
        try:
            yield
        finally:
            ended = self._clock()
            self._rest_until = max(self._rest_until, ended + min(REST * (ended - began), MOST_REST_S))
