"""The scan detector: how sure it is that the broken turns of a series are more than usual, for every series, minute and window, in SQL.

Owns an engine in memory with the counts by the minute, what is usual in each hour, and how restless each series is. Knows no clock, no episodes and no store: the same
minutes and exclusions give the same evidence, so that a replay of stored history is what happened, and a restart changes nothing. Method: a Kulldorff scan over windows
that end now, with Bernoulli likelihood and a dispersion measured on the series itself; docs/alerts.md tells it in words.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from msgspec import Struct

WINDOWS = (2, 3, 5, 8, 12, 20, 30, 60, 120)
"""Minutes over which turns are looked at together."""
REACH = WINDOWS[-1]
HISTORY_HOURS = 28 * 24
EMBARGO_HOURS = 3
"""What is usual in an hour is computed from hours that began so much before it, or earlier."""
REWORKED_HOURS = 30
"""Hours that are counted anew when time goes on, for turns that come late."""
DEFAULT_PHI = 0.25
"""Relative deviation of a series that is too young to have its own measured."""
_FLOOR_PHI = 0.05
_LEAST_EXPECTED = 10
ANY = "*"
"""Stands for every route, or every tier."""
_PARTS = "\x1f"


class Series(Struct, frozen=True, order=True):
    """Turns that are watched together. `route` and `tier` are `*` where they may be any."""

    scope: str
    route: str = ANY
    tier: str = ANY

    @property
    def key(self) -> str:
        """The series as one text, as the queries compare it."""
        return _PARTS.join((self.scope, self.route, self.tier))

    def overlaps(self, other: Series) -> bool:
        """Whether a turn may belong to both."""
        return all(
            ANY in (mine, theirs) or mine == theirs for mine, theirs in ((self.route, other.route), (self.tier, other.tier))
        )


ALL = Series("all")


class Evidence(Struct, frozen=True):
    """The best window of a series that ends in a minute. `evidence` in nats; `plain` is without the division by restlessness; `k` of `n` turns broke, `e` would be usual."""

    minute: int
    series: Series
    evidence: float
    plain: float
    window: int
    n: int
    k: int
    e: float


class Excluded(Struct, frozen=True):
    """Minutes of an episode, which say nothing of what is usual."""

    series: Series
    first: int
    last: int


class Counts(Struct, frozen=True):
    """What happened to a series over some minutes: `k` of `n` turns broke, `e` would be usual."""

    n: int
    k: int
    e: float


@cache
def _sql(name: str) -> str:
    text = (Path(__file__).parent / f"{name}.sql").read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.startswith("--"))


BASE_NATS = 5.5
"""Evidence that fires where there is one series. Chosen by `make bench-alerts`, which says how many false pages that makes."""


def threshold(series: int, base: float = BASE_NATS) -> float:
    """The evidence that pages, where so many series share one budget of false pages."""
    return base + 1.5 * math.log(max(1, series))


def _bursts(window: int) -> int:
    """How many bursts of a minute a window may hold that have nothing to do with each other."""
    return 1 if window < 20 else 2 if window < 60 else 3 if window < 120 else 4


class Detector:
    """The evidence over minutes that were loaded. `prior` is the rate that is taken for usual before anything is known. In one thread."""

    def __init__(self, prior: float, scopes: Iterable[str] = ("all", "route", "tier", "route_tier")) -> None:
        self._prior = prior
        self._scopes = frozenset(scopes)
        self._connection = duckdb.connect(":memory:", config={"threads": "1", "autoinstall_known_extensions": "false"})
        self._connection.execute(_sql("tables"))
        self._connection.executemany("INSERT INTO windows VALUES (?, ?)", [[window, _bursts(window)] for window in WINDOWS])
        self._hours: tuple[int, int] | None = None
        self._leaves: set[tuple[str, str]] = set()
        self._excluded: list[tuple[str, str, int, int]] = []
        self.series: list[Series] = []

    # --- what is known

    def load(self, minutes: pa.Table, first: int, last: int) -> None:
        """Replaces the minutes from `first` to `last` by those of a table with `minute`, `route`, `tier`, `n` and `k`."""
        self._connection.execute("DELETE FROM minutes WHERE minute BETWEEN ? AND ?", [first, last])
        self._connection.register("incoming", minutes)
        try:
            self._connection.execute(_sql("loading"), {"first": first, "last": last})
            found = self._connection.execute(
                "SELECT DISTINCT route, tier FROM minutes WHERE minute BETWEEN ? AND ?", [first, last]
            ).fetchall()
        finally:
            self._connection.unregister("incoming")
        if not self._leaves.issuperset(found):
            self._leaves.update(found)
            self._name_series()
        self._rate_unrated(first, last)

    def _rate_unrated(self, first: int, last: int) -> None:
        """Computes what is usual for turns whose hour was rated without them: of a new route, of one that comes back after days, or that came late."""
        if self._hours is None:
            return
        row = self._connection.execute(
            "SELECT min(minute // 60) FROM minutes AS m WHERE minute BETWEEN ? AND ? AND NOT EXISTS "
            "(SELECT 1 FROM rates AS r WHERE r.hour = m.minute // 60 AND r.route = m.route AND r.tier = m.tier)",
            [first, min(last, self._hours[1] * 60 + 59)],
        ).fetchone()
        if row is not None and row[0] is not None:
            self._rate(row[0], self._hours[1])

    def _name_series(self) -> None:
        """Every series once: one that has the same turns as a wider one is left out, and turns without a route are a part of the whole alone."""
        named_leaves = {(route, tier) for route, tier in self._leaves if route}
        routes = {route for route, _ in named_leaves}
        tiers = {tier for _, tier in named_leaves}
        tiers_of = {route: {tier for other, tier in named_leaves if other == route} for route in routes}
        routes_of = {tier: {route for route, other in named_leaves if other == tier} for tier in tiers}
        named = [ALL]
        named += [Series("route", route=route) for route in sorted(routes) if len(routes) > 1]
        named += [Series("tier", tier=tier) for tier in sorted(tiers) if len(tiers) > 1]
        named += [
            Series("route_tier", route, tier)
            for route, tier in sorted(named_leaves)
            if len(tiers_of[route]) > 1 and len(routes_of[tier]) > 1
        ]
        self.series = [series for series in named if series.scope in self._scopes]
        self._connection.execute("DELETE FROM series")
        self._connection.executemany(
            "INSERT INTO series VALUES (?, ?, ?)", [[one.scope, one.route, one.tier] for one in self.series or [ALL]]
        )

    def exclude(self, excluded: Iterable[Excluded]) -> None:
        """Replaces the minutes that say nothing of what is usual. Hours that were counted already are counted anew at the next refresh, for as far as it reaches."""
        rows = [
            (route, tier, one.first, one.last)
            for one in excluded
            for route, tier in sorted(self._leaves)
            if one.series.overlaps(Series("route_tier", route, tier))
        ]
        if rows == self._excluded:
            return
        self._excluded = rows
        names = ("route", "tier", "first", "last")
        table = pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)}) if rows else None
        self._connection.execute("DELETE FROM excluded")
        if table is not None:
            self._connection.register("incoming", table)
            self._connection.execute("INSERT INTO excluded SELECT route, tier, first, last FROM incoming")
            self._connection.unregister("incoming")

    def restart(self, series: Series, minute: int) -> None:
        """Windows of a series reach back no further than behind this minute."""
        parts = [series.scope, series.route, series.tier]
        self._connection.execute("DELETE FROM restarts WHERE scope = ? AND route = ? AND tier = ?", parts)
        self._connection.execute("INSERT INTO restarts VALUES (?, ?, ?, ?)", [*parts, minute])

    def refresh(self, first_hour: int, last_hour: int) -> None:
        """Computes what is usual in these hours, and how restless the series were on the days before."""
        start = first_hour - REWORKED_HOURS if self._hours is not None else first_hour - HISTORY_HOURS - EMBARGO_HOURS
        self._connection.execute("DELETE FROM hours WHERE hour >= ?", [start])
        self._connection.execute(_sql("hourly"), {"first": start, "last": last_hour})
        self._connection.execute("DELETE FROM rates WHERE hour >= ? OR hour < ?", [first_hour, first_hour - HISTORY_HOURS])
        self._rate(first_hour, last_hour)
        self._hours = (first_hour, last_hour)
        self._spread(first_hour)

    def _rate(self, first: int, last: int) -> None:
        """Computes what is usual in these hours for the routes and tiers for which it was not."""
        self._connection.execute(
            _sql("baseline"),
            {"first": first, "last": last, "history": HISTORY_HOURS, "embargo": EMBARGO_HOURS, "prior": self._prior},
        )

    def _spread(self, hour: int) -> None:
        """Measures the days that ended before the embargo and were not measured yet."""
        end = (hour - EMBARGO_HOURS) // 24
        start = (hour - HISTORY_HOURS) // 24
        row = self._connection.execute("SELECT max(day) FROM blocks").fetchone()
        first = max(start, row[0] + 1) if row and row[0] is not None else start
        if first >= end and row and row[0] is not None:
            return
        for day in range(first, end):
            self._connection.execute(
                f"INSERT INTO blocks {_sql('summed')} {_sql('blocks')}",
                {"first": day * 1440, "last": day * 1440 + 1439, "without": []},
            )
        self._connection.execute("DELETE FROM blocks WHERE day < ?", [start])
        self._connection.execute("DELETE FROM spreads")
        self._connection.execute(
            "INSERT INTO spreads SELECT scope, route, tier, w, sqrt(greatest(? ** 2, (sum(deviation) - sum(variance)) / sum(e2))) "
            "FROM blocks GROUP BY ALL HAVING sum(e) >= ?",
            [_FLOOR_PHI, _LEAST_EXPECTED],
        )

    def forget(self, before: int) -> None:
        """Lets go of minutes that no window and no count will need again."""
        self._connection.execute("DELETE FROM minutes WHERE minute < ?", [before])

    def warm_up(self, first_hour: int, last_hour: int) -> None:
        """Computes what was usual in each hour of the history, as it was known then, and how restless the series were."""
        for start in range(first_hour - first_hour % 24, last_hour + 1, 24):
            self._connection.execute("DELETE FROM hours WHERE hour >= ?", [start - REWORKED_HOURS])
            end = min(start + 23, last_hour)
            self._connection.execute(_sql("hourly"), {"first": start - REWORKED_HOURS, "last": end})
            self._rate(start, end)
            self._hours = (start, end)
        self._spread(last_hour)

    # --- what follows from it

    def evidence(
        self, first: int, last: int, *, least: float, only: Iterable[Series] | None = None, without: Iterable[Series] = ()
    ) -> list[Evidence]:
        """The evidence of at least `least` nats in these minutes, in their order; of some series only, or without the turns of others."""
        rows = self._connection.execute(
            _sql("summed") + _sql("evidence"),
            {
                "first": first - REACH + 1,
                "from": first,
                "last": last,
                "least": least,
                "phi": DEFAULT_PHI,
                "only": None if only is None else [series.key for series in only],
                "without": self._leaf_keys(without),
            },
        ).fetchall()
        return [
            Evidence(at, Series(scope, route, tier), evidence, plain, window, int(n), int(k), e)
            for at, scope, route, tier, evidence, plain, window, n, k, e in rows
        ]

    def _leaf_keys(self, covered: Iterable[Series]) -> list[str]:
        covered = list(covered)
        return [
            _PARTS.join((route, tier))
            for route, tier in sorted(self._leaves)
            if any(one.overlaps(Series("route_tier", route, tier)) for one in covered)
        ]

    def recovered(self, series: Series, *, after: int, first: int, last: int, limit: float) -> int | None:
        """The first minute of `first` to `last` by which a stretch behind the minute `after` shows that its rate lies below the limit; none where none does."""
        row = self._connection.execute(
            _sql("summed") + _sql("recovery"),
            {
                "first": max(after + 1, first - 1440),
                "from": first,
                "last": last,
                "limit": limit,
                "scope": series.scope,
                "route": series.route,
                "tier": series.tier,
                "without": [],
            },
        ).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def counts(self, first: int, last: int) -> dict[Series, Counts]:
        """What happened to each series over these minutes."""
        rows = self._connection.execute(
            _sql("summed") + "SELECT scope, route, tier, sum(n), sum(k), sum(e) FROM summed GROUP BY ALL",
            {"first": first, "last": last, "without": []},
        ).fetchall()
        return {Series(scope, route, tier): Counts(int(n), int(k), float(e)) for scope, route, tier, n, k, e in rows}

    def total(self, first: int, last: int) -> tuple[int, int]:
        """All turns of these minutes, and those of them that broke. Far cheaper than `counts`, over days."""
        row = self._connection.execute(
            "SELECT coalesce(sum(n), 0), coalesce(sum(k), 0) FROM minutes WHERE minute BETWEEN ? AND ?", [first, last]
        ).fetchone()
        return (0, 0) if row is None else (int(row[0]), int(row[1]))

    def newest(self, series: Series, upto: int) -> int | None:
        """The last minute in which the series had a turn."""
        row = self._connection.execute(
            "SELECT max(minute) FROM minutes WHERE minute <= ? AND ? IN ('*', route) AND ? IN ('*', tier)",
            [upto, series.route, series.tier],
        ).fetchone()
        return None if row is None or row[0] is None else int(row[0])

    def phis(self) -> dict[tuple[Series, int], float]:
        """The relative deviation of each series and window beyond chance, where it could be measured."""
        rows: list[tuple[Any, ...]] = self._connection.execute("SELECT scope, route, tier, w, phi FROM spreads").fetchall()
        return {(Series(scope, route, tier), w): phi for scope, route, tier, w, phi in rows}

    def close(self) -> None:
        """Lets go of the memory."""
        self._connection.close()
