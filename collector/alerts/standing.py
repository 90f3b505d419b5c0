"""Which conditions hold: the burnt budget, traffic that is missing, and rules of SQL. Turns what begins and ends to hold into alerts and events.

Owns what fires of them and which rules cannot be looked at. Knows neither receivers nor the tables of alerts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from collector.alerts import conditions, messages, rules
from collector.alerts.alert import MINUTE_NS, Alert, Event, Judged, event_of, resolve
from collector.alerts.conditions import BURN_RATE, NO_DATA, Condition
from collector.alerts.detector import Detector
from collector.alerts.rules import Rule, RulesError
from collector.store.store import Store

logger = logging.getLogger(__name__)

Changed = tuple[list[Alert], list[Event]]


class Standing:
    """How conditions stand."""

    def __init__(self, store: Store, *, objective: float, written: Sequence[Rule], dashboard_url: str) -> None:
        self._store = store
        self._objective = objective
        self._rules = written
        self._dashboard_url = dashboard_url
        self._firing: dict[str, Alert] = {}
        self._broken: set[str] = set()
        self._looked_at: dict[str, int] = {}

    @property
    def firing(self) -> list[Alert]:
        """The alerts that fire."""
        return list(self._firing.values())

    def restore(self, firing: Iterable[Alert], now_ns: int) -> Changed:
        """Takes over what fired before. Ends the alerts of rules that are there no more: nobody would look at them again."""
        known = {BURN_RATE, NO_DATA, *(rule.name for rule in self._rules)}
        self._firing, gone = {}, []
        for alert in firing:
            if alert.rule in known:
                self._firing[conditions.key_of(alert)] = alert
            else:
                resolve(alert, now_ns, "removed")
                gone.append(alert)
        return gone, [event_of("resolved", alert, now_ns) for alert in gone]

    def look(self, detector: Detector, minute: int, *, settled: bool) -> Changed:
        """Looks at the conditions that come with the product. Until traffic has `settled` behind a start, none is missing."""
        holding: list[Condition] = conditions.burning(detector, minute, self._objective)
        looked = {BURN_RATE}
        if settled:
            firing = any(alert.rule == NO_DATA for alert in self._firing.values())
            holding += conditions.silent(detector, minute, firing=firing)
            looked.add(NO_DATA)
        return self._change(holding, looked, minute)

    def look_at_rules(self, minute: int) -> Changed:
        """Looks at the rules of SQL whose time has come."""
        holding: list[Condition] = []
        looked: set[str] = set()
        for rule in self._rules:
            if self._looked_at.get(rule.name) == minute // rule.every_minutes:
                continue
            self._looked_at[rule.name] = minute // rule.every_minutes
            try:
                with self._store.reading() as reader:  # of its own: a failure ends the transaction that it happens in
                    holding += rules.holding(rule, reader, minute)
                looked.add(rule.name)
                self._broken.discard(rule.name)
            except RulesError as error:
                if rule.name not in self._broken:
                    logger.error("a rule could not be looked at: %s", error)  # noqa: TRY400 - the message says it all
                self._broken.add(rule.name)
        return self._change(holding, looked, minute)

    def judged(self, minute: int) -> list[Judged]:
        """How each condition stands, for the table of series."""
        firing = {alert.rule: alert.alert_id for alert in self._firing.values()}
        own: list[tuple[str, str, float | None]] = [(BURN_RATE, "all", None), (NO_DATA, "all", None)]
        return [
            Judged(
                rule=name,
                scope=scope,
                minute_ns=minute * MINUTE_NS,
                state="error" if name in self._broken else "firing" if name in firing else "ok",
                threshold=threshold,
                alert_id=firing.get(name),
            )
            for name, scope, threshold in (*own, *((rule.name, "query", rule.threshold) for rule in self._rules))
        ]

    def _change(self, holding: Sequence[Condition], looked: set[str], minute: int) -> Changed:
        alerts, events = conditions.changes(holding, self._firing, looked, minute)
        for alert in alerts:
            alert.link = messages.link(alert, self._dashboard_url)
        return alerts, events
