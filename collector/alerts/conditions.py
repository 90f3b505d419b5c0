"""Rules that hold or do not hold: the error budget that burns, traffic that stops, and whatever SQL a user asks. Pure: what holds goes in, alerts and events come out.

A condition is known by its rule and labels. One that begins to hold fires, one that holds no more is resolved; nothing else is remembered.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from hashlib import sha256

from msgspec import Struct, field

from collector.alerts.alert import MINUTE_NS, Alert, Event, event_of, percent, resolve
from collector.alerts.detector import Detector

BURN_RATE, NO_DATA = "burn_rate", "no_data"
BURNS = ((6.0, 360, 30), (1.0, 4320, 360))
"""How many times the budget, over how many minutes, and over how many of the latest of them (Google, The Site Reliability Workbook, 2018, chapter 5)."""
_LEAST_BROKEN = 5
NO_DATA_MINUTES = 10
_NO_DATA_CHANCE = 1e-6
_DAYS_BACK = 3


class Condition(Struct, frozen=True, kw_only=True):
    """Something that holds now: its value stands at its threshold or beyond."""

    rule: str
    severity: str
    labels: dict[str, str] = field(default_factory=dict)
    value: float
    threshold: float
    window_minutes: int
    summary: str

    @property
    def key(self) -> str:
        """What it is known by."""
        return json.dumps([self.rule, self.labels], sort_keys=True)


def burning(detector: Detector, minute: int, objective: float) -> list[Condition]:
    """Tickets for a budget that burns, however slowly the rate came to it: an adaptive baseline would call it usual."""
    budget = 1 - objective
    found = []
    for times, long, short in BURNS:
        if not detector.total(minute - long + 1, minute - long // 2)[0]:  # a store that is young says nothing of a time so long
            continue
        rates = []
        for length in (long, short):
            turns, broken = detector.total(minute - length + 1, minute)
            rates.append(broken / turns if broken >= _LEAST_BROKEN else 0.0)
        rate = min(rates)
        if rate >= times * budget:
            summary = (
                f"{percent(rates[0])} of turns broke over {_hours(long)}, and {percent(rates[1])} over the last {_hours(short)}: "
                f"{rate / budget:.2g} times the {percent(budget)} that the objective allows"
            )
            labels = {"window": _hours(long)}
            found.append(
                Condition(
                    rule=BURN_RATE,
                    severity="ticket",
                    labels=labels,
                    value=rate,
                    threshold=times * budget,
                    window_minutes=long,
                    summary=summary,
                )
            )
    return found


def silent(detector: Detector, minute: int, *, firing: bool = False) -> list[Condition]:
    """A ticket where the traffic of the last minutes is far below that of the same time on the days before, and of the last hours.

    While it fires the last hours say nothing: they are those of the outage.
    """
    first = minute - NO_DATA_MINUTES + 1
    days = [detector.total(first - day * 1440, minute - day * 1440)[0] for day in range(1, _DAYS_BACK + 1)]
    known = [turns for turns in days if turns > 0]
    if not known:
        return []
    hours = detector.total(first - 180, first - 1)[0] * NO_DATA_MINUTES / 180
    days_usual = sum(known) / len(known)
    usual, turns = days_usual if firing else min(days_usual, hours), detector.total(first, minute)[0]
    if turns >= usual / 2 or _poisson_tail(turns, usual) >= _NO_DATA_CHANCE:
        return []
    summary = f"{turns} turns ended in the last {NO_DATA_MINUTES} minutes, where about {usual:.0f} are usual"
    return [
        Condition(
            rule=NO_DATA, severity="ticket", value=turns, threshold=usual / 2, window_minutes=NO_DATA_MINUTES, summary=summary
        )
    ]


def _poisson_tail(k: int, mean: float) -> float:
    """The chance of at most `k` where `mean` are expected."""
    return math.fsum(math.exp(i * math.log(mean) - mean - math.lgamma(i + 1)) for i in range(k + 1)) if mean > 0 else 1.0


def _hours(minutes: int) -> str:
    if minutes % 1440 == 0:
        return f"{minutes // 1440} d"
    return f"{minutes // 60} h" if minutes % 60 == 0 else f"{minutes} min"


def changes(
    holding: Iterable[Condition], firing: dict[str, Alert], judged: Iterable[str], minute: int
) -> tuple[list[Alert], list[Event]]:
    """What begins and what ends in a minute. `firing` is changed to what fires after it; only conditions of rules that were `judged` end."""
    now_ns = (minute + 1) * MINUTE_NS
    alerts, events = [], []
    held = {condition.key: condition for condition in holding}
    for key, condition in held.items():
        if key in firing:
            continue
        alert = _alert(condition, minute)
        firing[key] = alert
        alerts.append(alert)
        events.append(event_of("fired", alert, now_ns))
    rules = set(judged)
    for key in [key for key, alert in firing.items() if key not in held and alert.rule in rules]:
        alert = firing.pop(key)
        resolve(alert, now_ns, "recovered")
        alerts.append(alert)
        events.append(event_of("resolved", alert, now_ns))
    return alerts, events


def key_of(alert: Alert) -> str:
    """What the condition of an alert is known by."""
    return json.dumps([alert.rule, alert.labels], sort_keys=True)


def _alert(condition: Condition, minute: int) -> Alert:
    name = sha256(f"{condition.key}/{minute}".encode()).hexdigest()[:16]
    return Alert(
        alert_id=name,
        incident_id=name,
        rule=condition.rule,
        severity=condition.severity,
        scope="all" if condition.rule in {BURN_RATE, NO_DATA} else "query",
        route=condition.labels.get("route"),
        model_tier=condition.labels.get("model_tier"),
        labels=condition.labels,
        since_ns=(minute + 1 - condition.window_minutes) * MINUTE_NS,
        fired_ns=(minute + 1) * MINUTE_NS,
        window_minutes=condition.window_minutes,
        threshold=condition.threshold,
        value=condition.value,
        summary=condition.summary,
    )
