"""Small statistics that the pages need: a rate's interval, and merging thin time buckets.

Pure. Knows no page and no query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import ceil, sqrt
from typing import Any

from msgspec import Struct

Z_95 = 1.959963984540054
"""The 97.5% quantile of the normal distribution: two-sided 95%."""

FEW_TURNS = 30
"""Below this many turns a rate says little: its bucket is drawn hollow (the design's number)."""

USUAL_TURNS = 45
"""How many turns a merged bucket should hold on average, so that most stand above FEW_TURNS."""

MIN_BUCKETS = 12
"""Merging stops here: a picture of fewer steps no longer shows when something began."""


class Bucket(Struct, frozen=True):
    """One step of a rate over time. Times in milliseconds since 1970."""

    start_ms: int
    end_ms: int
    turns: int
    broken: int

    @property
    def rate(self) -> float:
        """The share of broken turns; 0 where there are none."""
        return self.broken / self.turns if self.turns else 0.0

    @property
    def thin(self) -> bool:
        """Too few turns to trust the rate."""
        return self.turns < FEW_TURNS


def wilson(k: int, n: int) -> tuple[float, float]:
    """The 95% score interval of a share k of n (Wilson 1927). Holds for small counts, where k +- 2 sd does not. (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    p = k / n
    denominator = 1 + Z_95**2 / n
    middle = (p + Z_95**2 / (2 * n)) / denominator
    half = Z_95 * sqrt(p * (1 - p) / n + Z_95**2 / (4 * n * n)) / denominator
    return (0.0 if k == 0 else max(0.0, middle - half)), (1.0 if k == n else min(1.0, middle + half))


def differ(k_1: int, n_1: int, k_2: int, n_2: int) -> bool:
    """Whether two shares differ by more than chance would have them: the two-sided z-test of proportions at 5%."""
    if not n_1 or not n_2:
        return False
    pooled = (k_1 + k_2) / (n_1 + n_2)
    error = sqrt(pooled * (1 - pooled) * (1 / n_1 + 1 / n_2))
    return error > 0 and abs(k_1 / n_1 - k_2 / n_2) / error > Z_95


def merge_factor(turns: int, buckets: int) -> int:
    """How many neighbouring buckets to merge, so that an average one holds USUAL_TURNS, within MIN_BUCKETS."""
    if turns == 0 or buckets <= MIN_BUCKETS:
        return 1
    wanted = max(1, ceil(USUAL_TURNS * buckets / turns))
    return min(wanted, buckets // MIN_BUCKETS)


def bucketed(rows: Iterable[Mapping[str, Any]], *, start_ms: int, end_ms: int, bucket_ms: int, factor: int = 1) -> list[Bucket]:
    """Whole run of buckets from rows with `bucket`, `turns`, `broken`: gaps become buckets without turns, `factor` neighbours become one."""
    step_ms = bucket_ms * factor
    count = ceil((end_ms - start_ms) / step_ms)
    turns, broken = [0] * count, [0] * count
    for row in rows:
        place = row["bucket"] // factor
        if 0 <= place < count:
            turns[place] += row["turns"]
            broken[place] += row["broken"]
    return [
        Bucket(start_ms + place * step_ms, min(start_ms + (place + 1) * step_ms, end_ms), turns[place], broken[place])
        for place in range(count)
    ]


def filled(rows: Iterable[Mapping[str, Any]], field: str, count: int) -> list[float]:
    """One value per bucket for a sparkline: a bucket without a value repeats the one before it, leading ones are left out."""
    by_bucket = {row["bucket"]: row[field] for row in rows if row["bucket"] is not None and row[field] is not None}
    values: list[float] = []
    for place in range(count):
        value = by_bucket.get(place, values[-1] if values else None)
        if value is not None:
            values.append(float(value))
    return values


def nice_ceiling(
    value: float, steps: Sequence[float] = (0.02, 0.05, 0.08, 0.1, 0.12, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
) -> float:
    """The smallest step that holds the value: axis ends that read well."""
    return next((step for step in steps if value <= step), steps[-1])
