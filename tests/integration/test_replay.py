"""A share of the replay of real questions at real arrival times; the whole is `python -m benchmarks.replay`."""

import pytest

from benchmarks.replay import ARRIVALS, MAX_SOURCES, QUESTIONS, replay

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        not QUESTIONS.exists() or not ARRIVALS.exists(), reason="no data files in LASTWORD_TEST_DATA or ../shared/data"
    ),
]


def test_real_questions_have_one_terminal_each_and_the_right_source(tmp_path):
    """Eighty real questions, five times as fast as they came: counts agree on every side, and nine in ten have the right source."""
    result = replay(tmp_path, turns=80, speed=5, faults=0.1, seed=7)
    assert result.agrees, result
    assert result.terminals == 80
    assert result.stored_spans_turns == 80
    assert result.most_sources <= MAX_SOURCES
    assert result.found_share >= 0.9
