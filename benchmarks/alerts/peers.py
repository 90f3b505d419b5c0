"""How others alert on a rate, at their best with one setting for every service: on the same minutes, in numpy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.alerts.replaying import Page
from benchmarks.alerts.scenarios import DAY, WARM_UP_DAYS, World

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

QUIET_MINUTES = 5
"""An alert that did not hold for so long is over."""
HISTORY_DAYS = 14


def _last(values: npt.NDArray[np.int64], minutes: int) -> Floats:
    """Sums over the last minutes, each minute included."""
    total = np.concatenate([[0], np.cumsum(values)]).astype(float)
    start = np.maximum(0, np.arange(1, len(total)) - minutes)
    return np.asarray(total[1:] - total[start])


def _rate(k: Floats, n: Floats) -> Floats:
    return np.divide(k, n, out=np.zeros_like(k), where=n > 0)


def _pages(holds: Bools) -> list[Page]:
    """Pages of the scored days: one while the condition holds, with pauses of less than a few minutes."""
    pages: list[Page] = []
    fired, quiet = None, 0
    for minute in range(WARM_UP_DAYS * DAY, len(holds)):
        if holds[minute]:
            fired, quiet = minute if fired is None else fired, 0
        elif fired is not None:
            quiet += 1
            if quiet == QUIET_MINUTES:
                pages.append(Page(fired, minute))
                fired, quiet = None, 0
    return [*pages, Page(fired, None)] if fired is not None else pages


def fixed_threshold(world: World) -> list[Page]:
    """At least 10% and 10 turns of five minutes."""
    n, k = _last(world.n, 5), _last(world.k, 5)
    return _pages((_rate(k, n) >= 0.10) & (k >= 10))


def z_test(world: World) -> list[Page]:
    """Ten minutes against the same hour of the last fourteen days: four standard deviations, and five broken turns."""
    hours = len(world.n) // 60
    n_hour, k_hour = (values[: hours * 60].reshape(hours, 60).sum(axis=1).astype(float) for values in (world.n, world.k))
    usual = np.zeros(hours)
    for hour in range(HISTORY_DAYS * 24, hours):
        same = np.arange(hour - HISTORY_DAYS * 24, hour, 24)
        usual[hour] = k_hour[same].sum() / max(1.0, n_hour[same].sum())
    p = np.repeat(usual, 60)
    n, k = _last(world.n, 10)[: len(p)], _last(world.k, 10)[: len(p)]
    deviation = np.sqrt(n * p * (1 - p))
    z = np.divide(k - n * p, deviation, out=np.zeros_like(k), where=deviation > 0)
    return _pages((z >= 4) & (k >= 5))


def burn_rate(world: World) -> list[Page]:
    """The multiwindow rules of the SRE workbook on an objective of 99%: 14.4 times the budget over 1 h and 5 min, or 6 times over 6 h and 30 min."""
    holds = np.zeros(len(world.n), bool)
    for times, long, short in ((14.4, 60, 5), (6.0, 360, 30)):
        rates = [_rate(_last(world.k, minutes), _last(world.n, minutes)) for minutes in (long, short)]
        holds |= (rates[0] >= times * 0.01) & (rates[1] >= times * 0.01)
    return _pages(holds)


PEERS = {
    "fixed threshold (10%, 10 turns, 5 min)": fixed_threshold,
    "z-test against the same hour (z = 4)": z_test,
    "burn rate (99%)": burn_rate,
}
