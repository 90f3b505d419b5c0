"""Couriers: one thread for each receiver, which tells it what waits for it until it is taken, or until it is given up.

At least once, and in order within an incident: what follows a message that was not taken waits behind it. What waits stands in the store, so a restart forgets nothing.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

import duckdb

from collector.alerts.alert import MINUTE_NS, Alert
from collector.alerts.ledger import TEST, Delivery, Ledger
from collector.alerts.messages import alertmanager
from collector.alerts.receivers import Alertmanager, SendFailed
from collector.store.hot import StoreError

logger = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 300.0
GIVEN_UP_NS = 24 * 60 * MINUTE_NS
"""A message that nobody took for so long is dead: it stays visible, and is sent no more."""
TOLD_EVERY_S = 45.0
"""How often Alertmanager hears the whole state."""
_HOLDS_NS = 3 * MINUTE_NS
_TOLD_AFTER_NS = 5 * MINUTE_NS
_IDLE_S = 30.0
CLOSE_S = 15.0
"""How long the end of the collector waits for a try that is being made."""

Sent = Callable[[str, str], None]
"""Counts a try: receiver, and `ok`, `failed` or `dead`."""


class Receiver(Protocol):
    """Takes one message at a time."""

    name: str

    def send(self, delivery_id: str, message: dict[str, Any]) -> None:
        """Raises SendFailed."""


def wait_s(attempts: int, dice: random.Random) -> float:
    """How long behind so many failed tries the next one is made."""
    return float(min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** max(0, attempts - 1)) * dice.uniform(0.8, 1.2))


class _Thread(ABC):
    """A thread that tells one receiver: whenever it is poked, and when its time has come."""

    def __init__(self, name: str, ledger: Ledger, sent: Sent, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._name = name
        self._ledger = ledger
        self._sent = sent
        self._clock = clock
        self._dice = random.Random()
        self._changed = threading.Condition()
        self._poked = True
        self._closing = False
        self._thread = threading.Thread(target=self._run, name=f"alerts-{name}", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def poke(self) -> None:
        """There may be something to do."""
        with self._changed:
            self._poked = True
            self._changed.notify()

    def close(self) -> None:
        """Ends behind the try that is being made."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(CLOSE_S)  # a receiver that never ends its answer does not keep the collector

    def _run(self) -> None:
        pause_s = 0.0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closing or self._poked, pause_s)
                if self._closing:
                    return
                self._poked = False
            try:
                pause_s = self.round()
            except (duckdb.Error, StoreError) as error:  # the store is being opened anew, or its disk is full
                logger.warning("messages about alerts wait: %s", error)
                pause_s = FIRST_WAIT_S
            except Exception:  # the end of this thread would be the end of all alerts
                logger.exception("messages about alerts wait")
                pause_s = LONGEST_WAIT_S

    @abstractmethod
    def round(self) -> float:
        """Does what is due; the seconds until the next thing is."""


class Courier(_Thread):
    """Tells a receiver one event after another."""

    def __init__(self, ledger: Ledger, receiver: Receiver, sent: Sent, *, clock: Callable[[], int] = time.time_ns) -> None:
        super().__init__(receiver.name, ledger, sent, clock=clock)
        self._receiver = receiver

    def round(self) -> float:
        """Tries the oldest message of each incident that is due; the seconds until the next one is."""
        heads: dict[str, Delivery] = {}
        waiting = [one for one in self._ledger.waiting() if one.receiver == self._name]
        for delivery in waiting:
            heads.setdefault(delivery.incident_id, delivery)
        soonest_s, again = _IDLE_S, len(waiting) > len(heads)
        for delivery in heads.values():
            left_s = (delivery.due_ns - self._clock()) / 1e9
            if left_s > 0:
                soonest_s = min(soonest_s, left_s)
            elif self._try(delivery):
                soonest_s = 0.0 if again else soonest_s
            else:
                soonest_s = min(soonest_s, FIRST_WAIT_S)
            if self._closing:
                break
        return soonest_s

    def _try(self, delivery: Delivery) -> bool:
        """Whether the message is out of the way: taken, or given up."""
        attempts = delivery.attempts + 1
        try:
            self._receiver.send(delivery.delivery_id, json.loads(delivery.message))
        except SendFailed as failed:
            now = self._clock()
            dead = failed.final or now - delivery.queued_ns > GIVEN_UP_NS
            due = now + int(wait_s(attempts, self._dice) * 1e9)
            self._ledger.told(
                delivery,
                state="dead" if dead else "waiting",
                attempts=attempts,
                due_ns=due,
                delivered_ns=None,
                error=str(failed),
            )
            self._sent(self._name, "dead" if dead else "failed")
            logger.warning("%s did not take a message about an alert (try %d): %s", self._name, attempts, failed)
            return dead
        now = self._clock()
        self._ledger.told(delivery, state="delivered", attempts=attempts, due_ns=now, delivered_ns=now, error=None)
        self._sent(self._name, "ok")
        return True


class Announcer(_Thread):
    """Tells Alertmanager what fires, every so often and whenever something changes, with a watchdog that always fires."""

    def __init__(
        self,
        ledger: Ledger,
        receiver: Alertmanager,
        sent: Sent,
        *,
        alive: Callable[[], bool],
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`alive` says whether minutes are judged: the watchdog fires as long as they are."""
        super().__init__(receiver.name, ledger, sent, clock=clock)
        self._alive = alive
        self._receiver = receiver
        self._failures = 0
        self._started_ns = clock()

    def round(self) -> float:
        """Tells the whole state; the seconds until it is told again."""
        now = self._clock()
        waiting = [one for one in self._ledger.waiting() if one.receiver == self._name]
        told = self.state(now, {one.alert_id for one in waiting})
        try:
            refused = self._receiver.tell([alert for _, alert in told])
        except SendFailed as failed:
            self._failures += 1
            pause_s = min(TOLD_EVERY_S, wait_s(self._failures, self._dice))
            for one in waiting:
                dead = now - one.queued_ns > GIVEN_UP_NS
                self._note(one, "dead" if dead else "waiting", now + int(pause_s * 1e9), None, str(failed))
            self._sent(self._name, "failed")
            logger.warning("%s was not told of the alerts: %s", self._name, failed)
            return pause_s
        self._failures = 0
        self._sent(self._name, "ok")
        errors = {told[place][0]: error for place, error in refused.items()}
        for alert_id, error in errors.items():
            logger.warning("%s does not take alert %s: %s", self._name, alert_id, error)
        for one in waiting:
            why = errors.get(one.alert_id)
            self._note(one, "dead" if why else "delivered", now, None if why else now, why)
        return TOLD_EVERY_S * self._dice.uniform(0.9, 1.1)

    def _note(self, one: Delivery, state: str, due_ns: int, delivered_ns: int | None, error: str | None) -> None:
        self._ledger.told(one, state=state, attempts=one.attempts + 1, due_ns=due_ns, delivered_ns=delivered_ns, error=error)

    def state(self, now: int, untold: set[str]) -> list[tuple[str, dict[str, Any]]]:
        """The alerts of a moment by their ids: those that fire, those that ended lately or were not told yet, and the watchdog. Silenced ones are not told."""
        silences = self._ledger.silences(now)
        told = []
        for alert in self._ledger.alerts(since_ns=now - (GIVEN_UP_NS if untold else _TOLD_AFTER_NS)):
            late = alert.resolved_ns is not None and alert.resolved_ns < now - _TOLD_AFTER_NS
            if (late and alert.alert_id not in untold) or any(one.keeps(alert, now) for one in silences):
                continue
            ends = now + _HOLDS_NS if alert.resolved_ns is None else min(alert.resolved_ns, now)
            if alert.rule == TEST:  # what never fires wakes nobody, and that is what a test is to find out
                ends = alert.fired_ns + _HOLDS_NS
            told.append((alert.alert_id, alertmanager(alert, ends_ns=ends, link=alert.link)))
        if self._alive():
            told.append(("watchdog", alertmanager(self._watchdog(), ends_ns=now + _HOLDS_NS, link=None)))
        return told

    def _watchdog(self) -> Alert:
        """An alert that always fires: where it is missing, nobody would be told of another."""
        return Alert(
            alert_id="watchdog",
            incident_id="watchdog",
            rule="watchdog",
            severity="none",
            scope="all",
            since_ns=self._started_ns,
            fired_ns=self._started_ns,
            window_minutes=0,
            threshold=0.0,
            summary="The collector watches and can tell of it. Where this is missing, nobody would be told of an alert.",
        )
