"""The plan of a demo: seeded, bounded, and like the files that it replays."""

import random
import re

import pytest

from lastword.cli.traffic import FAULTS, Counts, Incident, TrafficError, plan, read_arrivals
from service.providers.faults import parse_fault


def make(turns=200, seed=1, **fields):
    return plan(turns, rng=random.Random(seed), **({"rate": 5.0, "faults": 0.2} | fields))


def test_plan_repeats_by_its_seed():
    """The same seed asks the same questions at the same times with the same faults."""
    assert make() == make()
    assert make() != make(seed=2)


def test_plan_has_the_rate_and_the_share_of_faults():
    """Arrivals rise, at about the rate; about the share of turns gets a fault."""
    planned = make(2000)
    times = [item.at_s for item in planned]
    assert times == sorted(times)
    assert 300 < times[-1] < 520
    assert 0.15 < sum("fault" in item.metadata for item in planned) / len(planned) < 0.25


def test_faults_of_the_demo_are_known_to_the_provider():
    """Every name that the demo sends means something to the embedded provider."""
    assert [parse_fault(name).name for name in FAULTS]


def test_arrivals_replay_times_and_lengths(tmp_path):
    """Seven digits of a second, out of order, twice as fast."""
    path = tmp_path / "a.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:50.5000001,1,20\n2023-11-16 18:15:46.5000000,1,10\n"
    )
    assert read_arrivals(path, 2.0) == [(0.0, 10), (2.0, 20)]
    first, second = make(2, arrivals=read_arrivals(path, 2.0), faults=0.0)
    assert (first.at_s, first.metadata, second.at_s) == (0.0, {"answer_tokens": "10"}, 2.0)
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n")
    with pytest.raises(TrafficError, match="yesterday"):
        read_arrivals(path, 1.0)


def test_counts_know_what_is_over():
    """A turn without a readable terminal counts as over, and not as a terminal."""
    counts = Counts(planned=3, terminals=1, first_token_ms=[5, 1, 9])
    counts.broken["WireError"] = 1
    assert (counts.done, counts.quantile_ms(0.5), Counts().quantile_ms(0.5)) == (2, 5, None)


def test_an_incident_cuts_what_it_finds_and_only_in_its_time():
    """Questions that match are cut between its begin and its end; no follow-up takes their place."""
    incident = Incident(pattern=re.compile("^how", re.IGNORECASE), after_s=20, for_s=30)
    planned = make(600, faults=0.0, incident=incident)
    struck = [item for item in planned if "fault" in item.metadata]
    assert struck
    assert all(item.question.startswith("How") and 20 <= item.at_s < 50 for item in struck)
    assert not any(item.question.startswith("How") and 20 <= item.at_s < 50 for item in planned if "fault" not in item.metadata)
