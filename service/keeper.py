"""The keeper: one thread that keeps this instance's lease, closes turns of instances that are gone, and forgets what is old.

Owns no state but the times of its next rounds. A round that fails is tried again at the next; the lease is first in each.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from service.store.instances import InstanceStore

logger = logging.getLogger(__name__)

RENEW_S = 2.0
LEASE_S = 10.0
"""A machine that stands still for longer loses its turns to another instance."""
EXPIRE_EVERY_S = 60.0
MAX_ROUNDS = 1000
"""Transactions that one round of expiry may take."""


class Retention(Struct, frozen=True, kw_only=True):
    """How long ended turns are kept, in seconds: their events, and the rest of them."""

    log_s: float
    turn_s: float


class Leased(Protocol):
    """Who wants to know for how long nobody else closes our turns, and whether there is nobody else."""

    def __call__(self, seconds: float, *, alone: bool) -> None:
        """The lease runs for so many seconds from now."""
        ...


class Keeper:
    """The thread. `recover` closes turns; `leased` hears for how long nobody else closes ours, and whether there is nobody else; `cancel` stops one of them."""

    def __init__(
        self,
        instances: InstanceStore,
        retention: Retention,
        *,
        recover: Callable[[list[str]], int],
        leased: Leased,
        cancel: Callable[[str], None],
    ) -> None:
        self._instances = instances
        self._retention = retention
        self._recover = recover
        self._leased = leased
        self._cancel = cancel
        self._closing = threading.Event()
        self._expired_at = 0.0
        self.recovered = 0
        self._renew()  # before the first turn: nobody may take it for an orphan
        self._thread = threading.Thread(target=self._run, name="keeper", daemon=True)

    def start(self) -> None:
        """Begins with a round at once: what a crash left open is closed now."""
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._round()
            except Exception:  # the boundary of this thread: the database may come back
                logger.exception("the lease was not renewed, or open turns were not looked at")
            self._closing.wait(RENEW_S)

    def _round(self) -> None:
        self._renew()
        orphans = self._instances.orphans()
        if orphans:
            self.recovered += self._recover(orphans)
        for turn_id in self._instances.asked_to_cancel():
            self._cancel(turn_id)
        now = time.monotonic()
        if now - self._expired_at >= min(EXPIRE_EVERY_S, self._retention.log_s):
            self._expired_at = now
            self._repeat(lambda: self._instances.expire_logs(self._retention.log_s))
            self._repeat(lambda: self._instances.expire_turns(self._retention.turn_s))

    def _renew(self) -> None:
        asked_at = time.monotonic()
        others = self._instances.renew(LEASE_S)
        self._leased(LEASE_S - (time.monotonic() - asked_at), alone=not others)

    def _repeat(self, expire: Callable[[], int]) -> None:
        for _ in range(MAX_ROUNDS):
            if not expire() or self._closing.is_set():
                return

    def close(self) -> None:
        """Ends the thread and gives the lease up: all turns of this instance have ended."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join(LEASE_S)
        self._leased(0, alone=False)
        try:
            self._instances.leave()
        except Exception:  # the lease runs out by itself
            logger.exception("the lease was not given up")
