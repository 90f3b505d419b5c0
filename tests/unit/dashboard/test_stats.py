from __future__ import annotations

import pytest

from dashboard.stats import FEW_TURNS, MIN_BUCKETS, bucketed, differ, filled, merge_factor, nice_ceiling, wilson


@pytest.mark.parametrize(("k", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (10, 10, 0.7225, 1.0)])
def test_wilson_interval_matches_published_values(k: int, n: int, low: float, high: float) -> None:
    """The score interval of small counts, to four digits."""
    assert wilson(k, n) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_wilson_interval_of_nothing_is_everything() -> None:
    """Without a turn any rate is possible."""
    assert wilson(0, 0) == (0.0, 1.0)


def test_buckets_cover_the_window_with_its_gaps() -> None:
    """Every bucket of the window is there, those without turns too, and the last one ends with the window."""
    rows = [{"bucket": 0, "turns": 4, "broken": 1}, {"bucket": 3, "turns": 2, "broken": 0}]
    buckets = bucketed(rows, start_ms=1000, end_ms=5500, bucket_ms=1000)
    assert [(bucket.start_ms, bucket.turns) for bucket in buckets] == [(1000, 4), (2000, 0), (3000, 0), (4000, 2), (5000, 0)]
    assert buckets[-1].end_ms == 5500


def test_merged_buckets_keep_every_turn() -> None:
    """Merging adds counts up and loses none."""
    rows = [{"bucket": place, "turns": 3, "broken": 1} for place in range(7)]
    buckets = bucketed(rows, start_ms=0, end_ms=7000, bucket_ms=1000, factor=3)
    assert [(bucket.turns, bucket.broken) for bucket in buckets] == [(9, 3), (9, 3), (3, 1)]


def test_rows_outside_the_window_are_left_out() -> None:
    """A late row of the next bucket does not make a bucket of its own."""
    assert bucketed([{"bucket": 9, "turns": 1, "broken": 0}], start_ms=0, end_ms=2000, bucket_ms=1000)[-1].turns == 0


def test_thin_is_below_thirty_turns() -> None:
    """The limit itself is enough."""
    at_limit, below = (
        bucketed([{"bucket": 0, "turns": turns, "broken": 0}], start_ms=0, end_ms=1, bucket_ms=1)[0]
        for turns in (FEW_TURNS, FEW_TURNS - 1)
    )
    assert not at_limit.thin
    assert below.thin


@pytest.mark.parametrize(
    ("turns", "buckets", "factor"), [(0, 72, 1), (100_000, 72, 1), (72 * 15, 72, 3), (10, 72, 6), (10, 8, 1)]
)
def test_merge_factor_makes_steps_that_hold_enough(turns: int, buckets: int, factor: int) -> None:
    """Thin traffic gets wider steps, but never fewer than a dozen of them."""
    assert merge_factor(turns, buckets) == factor
    assert buckets // factor >= min(MIN_BUCKETS, buckets)


def test_shares_differ_only_beyond_chance() -> None:
    """Ten times the rate over thousands differs; one more of ten does not."""
    assert differ(100, 1000, 10, 1000)
    assert not differ(2, 10, 1, 10)
    assert not differ(0, 100, 0, 100)
    assert not differ(1, 10, 0, 0)


def test_sparkline_repeats_over_gaps_and_never_shows_zero_for_them() -> None:
    """A bucket without a value repeats the last one; those before the first value are left out."""
    rows = [{"bucket": 1, "p": 5}, {"bucket": 3, "p": 7}, {"bucket": None, "p": 1}, {"bucket": 4, "p": None}]
    assert filled(rows, "p", 6) == [5.0, 5.0, 7.0, 7.0, 7.0]


def test_axis_end_holds_its_value() -> None:
    """The chosen end is the smallest round one that is not below the value."""
    assert [nice_ceiling(value) for value in (0.0, 0.02, 0.021, 0.7, 3.0)] == [0.02, 0.02, 0.05, 0.8, 1.0]
