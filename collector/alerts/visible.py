"""Blind spots: the smallest multiple of what is usual that a series would show within some minutes. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping

from collector.alerts.detector import DEFAULT_PHI, WINDOWS


def smallest_multiple(
    turns_per_minute: float, baseline: float, phis: Mapping[int, float], threshold: float, within_minutes: int
) -> float | None:
    """How many times the usual rate would fire within so many minutes, at even traffic and without luck; none where not even a broken turn each time would."""
    found = [
        multiple
        for window in WINDOWS
        if window <= within_minutes
        and (multiple := _of_window(turns_per_minute * window, baseline, phis.get(window, DEFAULT_PHI), threshold, window))
    ]
    return min(found, default=None)


def _of_window(n: float, baseline: float, phi: float, threshold: float, window: int) -> float | None:
    if n <= 0 or not 0 < baseline < 1:
        return None
    low, high = 1.1, 1 / baseline
    if _evidence(n, baseline, high, phi, window) < threshold:
        return None
    for _ in range(20):  # halves the interval far below what is shown
        middle = (low + high) / 2
        if _evidence(n, baseline, middle, phi, window) < threshold:
            low = middle
        else:
            high = middle
    return high


def _evidence(n: float, baseline: float, multiple: float, phi: float, window: int) -> float:
    """What a window would weigh whose turns break `multiple` times as often as usual: its worst minute is left out, as in the detector."""
    expected = n * baseline
    bound = 1.1 * expected
    broken = min(n, multiple * expected)
    rest = broken - max(0.0, (broken - bound) / window)
    if rest < 2 or rest <= bound or bound >= n:
        return 0.0
    plain = rest * math.log(rest / bound)
    if rest < n:
        plain += (n - rest) * math.log((n - rest) / (n - bound))
    return plain / (1 + expected * phi * phi)
