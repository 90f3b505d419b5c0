"""What the alerts would have said of stored turns: the same minutes, the same detector, the same rules, on a clock that runs as fast as it can."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import duckdb
from msgspec import Struct

from collector.alerts import conditions, rules
from collector.alerts.alert import Alert, Scan, alert_of
from collector.alerts.detector import HISTORY_HOURS, REWORKED_HOURS, Detector
from collector.alerts.minutes import bounds, counting, read_minutes
from collector.alerts.rules import Rule
from collector.alerts.watch import Episode, Watch

STEP_MINUTES = 120

Progress = Callable[[int], None]
"""Is told how many minutes were walked."""


class NothingStored(Exception):
    """There are no turns to replay."""


class Span(Struct, frozen=True):
    """Minutes since 1970: those that are walked, and where the history that they are judged by begins."""

    history: int
    first: int
    last: int

    @property
    def minutes(self) -> int:
        """How many are walked."""
        return self.last - self.first + 1


def span(reader: duckdb.DuckDBPyConnection, days: float) -> Span:
    """The last days of what is stored.

    Raises:
        NothingStored: it has no turns.
    """
    stored = bounds(reader)
    if stored is None:
        raise NothingStored("there are no turns to replay")
    first = max(stored[0], stored[1] - round(days * 1440) + 1)
    return Span(max(stored[0], first - (HISTORY_HOURS + REWORKED_HOURS) * 60), first, stored[1])


def episodes(reader: duckdb.DuckDBPyConnection, scan: Scan, over: Span, progress: Progress = lambda _: None) -> list[Episode]:
    """The episodes of a rule of the detector, in the order in which they fired."""
    detector = Detector(scan.prior, scan.scopes)
    try:
        watch = Watch(detector, scan.rule)
        detector.load(counting(read_minutes(reader, over.history, over.last), scan.column), over.history, over.last)
        watch.warm_up(over.first, over.history)
        found: dict[str, Episode] = {}
        for first in range(over.first, over.last + 1, STEP_MINUTES):
            last = min(first + STEP_MINUTES - 1, over.last)
            for change in watch.advance(first, last):
                found[change.episode.id] = change.episode
            progress(last - first + 1)
        return list(found.values())
    finally:
        detector.close()


def alerts(scan: Scan, found: Sequence[Episode]) -> list[Alert]:
    """Episodes as alerts."""
    return [alert_of(scan, episode) for episode in found]


def firings(reader: duckdb.DuckDBPyConnection, rule: Rule, over: Span, progress: Progress = lambda _: None) -> Iterator[Alert]:
    """The alerts of a rule of SQL over stored turns, each when it is over, and at the end those that still fire.

    Raises:
        RulesError: its query failed.
    """
    firing: dict[str, Alert] = {}
    for minute in range(over.first, over.last + 1):
        if minute % rule.every_minutes == 0:
            changed, _ = conditions.changes(rules.holding(rule, reader, minute), firing, [rule.name], minute)
            yield from (alert for alert in changed if alert.state == "resolved")
        progress(1)
    yield from firing.values()
