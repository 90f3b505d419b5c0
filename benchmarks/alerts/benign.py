"""What is to page nobody: each scenario every day of a month, and a live run in which rows come late."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa

from benchmarks.alerts.replaying import Page, scan
from benchmarks.alerts.scenarios import DAY, ORIGIN, SCORED_DAYS, WARM_UP_DAYS, Floats, Ints, Rows, draw, rate, stored, traffic
from collector.alerts.detector import REACH, REWORKED_HOURS, Detector
from collector.alerts.evaluator import LATE_MINUTES
from collector.alerts.minutes import counting, read_minutes
from collector.alerts.watch import Watch

MINUTES = (WARM_UP_DAYS + SCORED_DAYS) * DAY
LATE_DAYS = 2
LATE_SHARE = 0.3


def _days() -> range:
    return range(WARM_UP_DAYS, WARM_UP_DAYS + SCORED_DAYS)


def _route(rng: np.random.Generator, name: str, expected: Floats, baseline: float) -> Rows:
    n, k = draw(rng, expected, rate(rng, baseline, len(expected)))
    return Rows(name, "smart", n, k)


def blip(rng: np.random.Generator) -> list[Page]:
    """Every day a minute in which every turn breaks."""
    one = _route(rng, "chat", traffic(rng, 20, MINUTES), 0.02)
    for day in _days():
        minute = day * DAY + int(rng.integers(DAY))
        one.k[minute] = one.n[minute]
    return scan([one])


def more_traffic(rng: np.random.Generator) -> list[Page]:
    """Every day two hours with three times the turns."""
    expected = traffic(rng, 20, MINUTES)
    for day in _days():
        start = day * DAY + int(rng.integers(DAY - 120))
        expected[start : start + 120] *= 3
    return scan([_route(rng, "chat", expected, 0.02)])


def mix_shift(rng: np.random.Generator) -> list[Page]:
    """Every day three hours in which turns move from a route that breaks at 1% to one that breaks at 10%."""
    whole = traffic(rng, 20, MINUTES)
    share = np.full(MINUTES, 0.1)
    for day in _days():
        start = day * DAY + int(rng.integers(DAY - 180))
        share[start : start + 180] = 0.8
    return scan([_route(rng, "chat", whole * (1 - share), 0.01), _route(rng, "docs", whole * share, 0.1)])


def gap(rng: np.random.Generator) -> list[Page]:
    """Every day half an hour of which nothing was stored."""
    one = _route(rng, "chat", traffic(rng, 20, MINUTES), 0.02)
    for day in _days():
        start = day * DAY + int(rng.integers(DAY - 30))
        one.n[start : start + 30] = one.k[start : start + 30] = 0
    return scan([one])


def late_rows(rng: np.random.Generator) -> list[Page]:
    """Three rows in ten come up to an hour late, minute by minute as a collector lives through it: two days."""
    minutes = (WARM_UP_DAYS + LATE_DAYS) * DAY
    one = _route(rng, "chat", traffic(rng, 20, minutes), 0.02)
    start = ORIGIN + WARM_UP_DAYS * DAY
    detector = Detector(0.05)
    watch = Watch(detector, "partial_rate")
    with stored([one]) as store:
        detector.load(counting(read_minutes(store, ORIGIN, start - 1), "broken"), ORIGIN, start - 1)
        watch.warm_up(start, ORIGIN)
        late_n, late_k = rng.binomial(one.n, LATE_SHARE), rng.binomial(one.k, LATE_SHARE)
        pages: list[Page] = []
        for minute in range(start, ORIGIN + minutes):
            here = minute - ORIGIN
            # Of the turns that are late, those of an hour ago have all come, those of now none.
            come = np.clip(np.arange(here, -1, -1)[-REACH * 20 :] / 60, 0, 1)
            first = here + 1 - len(come)
            n = one.n[first : here + 1] - np.round(late_n[first : here + 1] * (1 - come)).astype(int)
            k = one.k[first : here + 1] - np.round(late_k[first : here + 1] * (1 - come)).astype(int)
            reach = REWORKED_HOURS * 60 if minute % 60 == 0 else REACH + LATE_MINUTES
            detector.load(_table(ORIGIN + first, n, k), max(ORIGIN + first, minute - reach), minute)
            changes = watch.advance(minute, minute, least=0.0)
            pages += [Page(here, None) for change in changes if change.kind == "fired"]
    detector.close()
    return pages


def _table(first: int, n: Ints, k: Ints) -> pa.Table:
    count = len(n)
    return pa.table({"minute": first + np.arange(count), "route": ["chat"] * count, "tier": ["smart"] * count, "n": n, "k": k})


BENIGN: dict[str, tuple[str, Callable[[np.random.Generator], list[Page]]]] = {
    "one-minute blip": ("a minute of 100%, 30 times", blip),
    "traffic x3": ("two hours, 30 times", more_traffic),
    "mix shift": ("three hours of turns on a route ten times worse, 30 times", mix_shift),
    "collector gap": ("half an hour without rows, 30 times", gap),
    "late rows": ("30% of rows up to an hour late, two days", late_rows),
}
