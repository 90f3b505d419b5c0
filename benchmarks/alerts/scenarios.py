"""Minutes of synthetic services: seasons, drift, wobble, restlessness, clusters of one minute, and incidents of every kind. Seeded.

A world is a table like the view `turn_minutes` of a store, so that the detectors read it as they read a collector's.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec import Struct

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

DAY = 1440
ORIGIN = 29_000_000 - 29_000_000 % DAY
"""The first minute of every world, since 1970."""
WARM_UP_DAYS = 17
SCORED_DAYS = 30
RATES = (0.2, 2.0, 20.0, 200.0)
"""Turns per second."""
BASELINES = (0.001, 0.005, 0.02, 0.08)
KINDS = ((1.5, 240), (2.0, 60), (3.0, 60), (5.0, 15), (10.0, 15))
"""Incidents: how many times the usual rate, for how many minutes."""


class Cell(Struct, frozen=True):
    """A service: its traffic and its usual rate of broken turns."""

    turns_per_s: float
    baseline: float


CELLS = tuple(Cell(rate, baseline) for rate in RATES for baseline in BASELINES)


class Incident(Struct, frozen=True):
    """A time in which turns break `times` as often: minutes `start` to `end` of the world, the last not included."""

    times: float
    start: int
    end: int


class World(Struct):
    """Turns and broken turns of each minute from `ORIGIN` on, of one route, and what was done to it."""

    cell: Cell
    n: Ints
    k: Ints
    incidents: list[Incident]


def _walk(rng: np.random.Generator, minutes: int, half_life: float, deviation: float) -> Floats:
    """A wobble around 0 that forgets with a half-life in minutes, by its values on a coarser grid, joined by lines."""
    grid = max(1, int(half_life / 4))
    keep = 0.5 ** (grid / half_life)
    steps = rng.normal(0, deviation * np.sqrt(1 - keep * keep), minutes // grid + 2)
    values = np.empty(len(steps))
    level = rng.normal(0, deviation)
    for place, step in enumerate(steps):
        level = keep * level + step
        values[place] = level
    return np.interp(np.arange(minutes), np.arange(len(values)) * grid, values)


def traffic(rng: np.random.Generator, turns_per_s: float, minutes: int) -> Floats:
    """Expected turns of each minute: a day, a week, and a wobble."""
    at = np.arange(minutes)
    day = 1 + 0.6 * np.sin(2 * np.pi * (at / DAY + rng.random()))
    week = np.where((at // DAY + rng.integers(7)) % 7 >= 5, 0.6, 1.0)
    return np.asarray(turns_per_s * 60 * day * week * np.exp(_walk(rng, minutes, 180, 0.1)))


def rate(rng: np.random.Generator, baseline: float, minutes: int) -> Floats:
    """The usual rate of broken turns in each minute: a day of its own, drift over days, and a wobble over half an hour."""
    at = np.arange(minutes)
    day = 0.2 * np.sin(2 * np.pi * (at / DAY + rng.random()))
    return np.asarray(baseline * np.exp(day + _walk(rng, minutes, 3 * DAY, 0.15) + _walk(rng, minutes, 30, 0.08)))


def draw(rng: np.random.Generator, expected: Floats, chance: Floats) -> tuple[Ints, Ints]:
    """Turns and broken turns: more restless than chance alone, with a minute or so a day in which a cluster of turns breaks together."""
    minutes = len(expected)
    n = rng.poisson(expected)
    shape = 400.0  # a relative deviation of 5% from minute to minute
    k = rng.binomial(n, np.minimum(0.95, chance * rng.gamma(shape, 1 / shape, minutes)))
    for minute in rng.integers(0, minutes, rng.poisson(minutes / DAY)):
        k[minute] += rng.binomial(n[minute] - k[minute], rng.uniform(0.05, 0.4))
    return n, k


def plan(rng: np.random.Generator, kinds: Sequence[tuple[float, int]] = KINDS) -> list[Incident]:
    """An incident about every eighteen hours of the scored days, the kinds in a random order."""
    incidents, start = [], WARM_UP_DAYS * DAY
    while (start := start + int(rng.integers(14 * 60, 22 * 60))) < (WARM_UP_DAYS + SCORED_DAYS) * DAY - 480:
        times, length = kinds[rng.integers(len(kinds))]
        incidents.append(Incident(times, start, start + length))
    return incidents


def world(cell: Cell, seed: int, *, with_incidents: bool) -> World:
    """A service over the days of warm-up and those that are scored."""
    rng = np.random.default_rng([seed, round(cell.turns_per_s * 10), round(cell.baseline * 1e4), int(with_incidents)])
    minutes = (WARM_UP_DAYS + SCORED_DAYS) * DAY
    expected, chance = traffic(rng, cell.turns_per_s, minutes), rate(rng, cell.baseline, minutes)
    incidents = plan(rng) if with_incidents else []
    for incident in incidents:
        chance[incident.start : incident.end] *= incident.times
    n, k = draw(rng, expected, chance)
    return World(cell, n, k, incidents)


class Rows(Struct):
    """Turns and broken turns of each minute, of one route and tier."""

    route: str
    tier: str
    n: Ints
    k: Ints


def stored(parts: Sequence[Rows]) -> duckdb.DuckDBPyConnection:
    """A store that holds these minutes as its view `turn_minutes`."""
    tables = []
    for part in parts:
        minute = ORIGIN + np.arange(len(part.n))
        some = part.n > 0
        tables.append(
            pa.table(
                {
                    "minute": minute[some] * 60_000_000,
                    "route": pa.array([part.route] * int(some.sum())),
                    "tier": pa.array([part.tier] * int(some.sum())),
                    "n": part.n[some],
                    "broken": part.k[some],
                }
            )
        )
    connection = duckdb.connect(":memory:", config={"threads": "1"})
    connection.execute("SET TimeZone = 'UTC'")
    connection.register("parts", pa.concat_tables(tables))
    connection.execute(
        "CREATE TABLE turn_minutes AS SELECT make_timestamptz(minute) AS minute, route, tier, NULL::VARCHAR AS model, 'answered' AS status, "
        "NULL::VARCHAR AS reason, n, broken, 0::BIGINT AS client_left FROM parts"
    )
    connection.unregister("parts")
    return connection
