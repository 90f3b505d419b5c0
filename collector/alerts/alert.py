"""Alerts, their events and the series as they are stored: values, and the sentences about them. Pure.

Every alert is a row of `alerts`, whatever rule it comes from: the scan of a rate, a condition on the whole, or SQL that a user wrote.
"""

from __future__ import annotations

import math
from typing import Any

from msgspec import Struct, field

from collector.alerts.detector import ANY, Evidence, Series
from collector.alerts.watch import Change, Episode

MINUTE_NS = 60_000_000_000


class Alert(Struct, kw_only=True):
    """A row of `alerts`: see docs/sql.md for the columns. `labels` and `explanation` are JSON in the table."""

    alert_id: str
    incident_id: str
    rule: str
    severity: str
    role: str = "root"
    covering: bool = False
    state: str = "firing"
    scope: str
    route: str | None = None
    model_tier: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    since_ns: int
    fired_ns: int
    resolved_ns: int | None = None
    why_resolved: str | None = None
    window_minutes: int
    turns: int | None = None
    broken: int | None = None
    expected: float | None = None
    rate: float | None = None
    rate_low: float | None = None
    rate_high: float | None = None
    baseline: float | None = None
    evidence: float | None = None
    threshold: float
    recovers_below: float | None = None
    value: float | None = None
    summary: str = ""
    explanation: dict[str, Any] | None = None
    link: str | None = None


class Event(Struct, frozen=True):
    """What happened to an alert: a row of `alert_events`."""

    event_id: str
    change: str
    happened_ns: int
    alert: Alert
    summary: str


class Scan(Struct, frozen=True):
    """A rule of the detector: which turns it counts, and whom it wakes. `counted` says in words what happened to them."""

    rule: str
    column: str
    severity: str
    scopes: tuple[str, ...]
    prior: float
    counted: str


class Judged(Struct, kw_only=True):
    """A series, or a rule of SQL, as it was judged last: a row of `alert_series`."""

    rule: str
    scope: str
    route: str | None = None
    model_tier: str | None = None
    minute_ns: int
    state: str
    turns: int | None = None
    broken: int | None = None
    expected: float | None = None
    baseline: float | None = None
    evidence: float | None = None
    threshold: float | None = None
    window_minutes: int | None = None
    restlessness: float | None = None
    visible_15: float | None = None
    visible_60: float | None = None
    alert_id: str | None = None


def wilson(k: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% interval of a rate of `k` in `n` (Wilson 1927)."""
    if n <= 0:
        return 0.0, 1.0
    k = min(max(k, 0), n)
    rate, square = k / n, z * z
    middle = (rate + square / (2 * n)) / (1 + square / n)
    half = z / (1 + square / n) * math.sqrt(rate * (1 - rate) / n + square / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


def alert_of(scan: Scan, episode: Episode) -> Alert:
    """The row of an episode."""
    one = episode.evidence
    low, high = wilson(one.k, one.n)
    alert = Alert(
        alert_id=episode.id,
        incident_id=episode.incident,
        rule=scan.rule,
        severity=scan.severity,
        role="root" if episode.root else "symptom",
        covering=episode.covering,
        scope=one.series.scope,
        route=label(one.series.route),
        model_tier=label(one.series.tier),
        since_ns=episode.since * MINUTE_NS,
        fired_ns=(episode.fired + 1) * MINUTE_NS,
        window_minutes=one.window,
        turns=one.n,
        broken=one.k,
        expected=one.e,
        rate=one.k / one.n,
        rate_low=low,
        rate_high=high,
        baseline=one.e / one.n,
        evidence=one.evidence,
        threshold=episode.threshold,
        recovers_below=episode.limit,
    )
    alert.summary = told(scan, one)
    if episode.resolved is not None:
        resolve(alert, (episode.resolved + 1) * MINUTE_NS, episode.why or "recovered")
    return alert


def episode_of(alert: Alert) -> Episode:
    """The episode that a row of a scan stands for."""
    series = Series(alert.scope, _part(alert.route), _part(alert.model_tier))
    fired = alert.fired_ns // MINUTE_NS - 1
    one = Evidence(
        fired,
        series,
        alert.evidence or 0.0,
        alert.evidence or 0.0,
        alert.window_minutes,
        alert.turns or 0,
        alert.broken or 0,
        alert.expected or 0.0,
    )
    return Episode(
        id=alert.alert_id,
        incident=alert.incident_id,
        series=series,
        since=alert.since_ns // MINUTE_NS,
        fired=fired,
        evidence=one,
        threshold=alert.threshold,
        limit=alert.recovers_below or 0.0,
        root=alert.role == "root",
        covering=alert.covering,
        resolved=None if alert.resolved_ns is None else alert.resolved_ns // MINUTE_NS - 1,
        why=alert.why_resolved,
    )


def resolve(alert: Alert, at_ns: int, why: str) -> None:
    """Ends an alert."""
    alert.state, alert.resolved_ns, alert.why_resolved = "resolved", at_ns, why


def event_of(change: str, alert: Alert, at_ns: int) -> Event:
    """The event of a change. Its id is the same however often the change is computed."""
    return Event(f"{alert.alert_id}-{change}", change, at_ns, alert, _happened(change, alert, at_ns))


def event_of_episode(change: Change, alert: Alert) -> Event:
    """The event of a change of an episode."""
    return event_of(change.kind, alert, (change.minute + 1) * MINUTE_NS)


def label(part: str) -> str | None:
    """A route or tier as it is stored: none where it may be any."""
    return None if part == ANY else part


def _part(stored: str | None) -> str:
    return ANY if stored is None else stored


def place(route: str | None, tier: str | None) -> str:
    """Which turns, in words."""
    parts = [f"route {route or '(none)'}" if route is not None else "", f"tier {tier or '(none)'}" if tier is not None else ""]
    return ", ".join(part for part in parts if part) or "all turns"


def percent(rate: float) -> str:
    """A rate as people read it."""
    return f"{rate * 100:.0f}%" if rate >= 0.0995 else f"{rate * 100:.1f}%" if rate >= 0.00995 else f"{rate * 100:.2g}%"


def told(scan: Scan, one: Evidence) -> str:
    """A window in a sentence."""
    times = one.k / one.e
    return (
        f"{place(label(one.series.route), label(one.series.tier))}: {percent(one.k / one.n)} {scan.counted} "
        f"({one.k} of {one.n} in {one.window} min), usually {percent(one.e / one.n)}: {times:.2g} times as many"
    )


def _happened(change: str, alert: Alert, at_ns: int) -> str:
    if change != "resolved":
        return alert.summary
    minutes = max(0, at_ns - alert.since_ns) // MINUTE_NS
    ended = "no turns any more" if alert.why_resolved == "silent" else "over"
    return f"{place(alert.route, alert.model_tier)}: {ended} after {minutes} min. It was: {alert.summary}"
