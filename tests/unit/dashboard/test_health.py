from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from dashboard import health
from dashboard.views.pipeline import size


def exposed() -> str:
    registry = CollectorRegistry()
    requests = Counter("lastword_otlp_requests", "OTLP requests.", ["signal", "status"], registry=registry)
    requests.labels("logs", "200").inc(50)
    requests.labels("traces", "503").inc(2)
    requests.labels("traces", "OK").inc(5)
    Counter("lastword_items_rejected", "Cannot be stored.", ["signal"], registry=registry)
    commit = Histogram("lastword_commit_seconds", "Length of a commit.", registry=registry)
    commit.observe(0.02)
    commit.observe(0.04)
    return generate_latest(registry).decode()


def test_trouble_that_happened_stands_first() -> None:
    """Refusals are named by signal and status; what was taken over HTTP or gRPC is none."""
    found = health.troubles(health.read(exposed()))
    assert [(each.what, each.count) for each in found if each.count] == [("requests of traces refused with 503", 2)]
    assert found[0].means == "The collector had no room or could not store; the sender tries again."


def test_counter_that_never_counted_is_zero_and_an_absent_one_is_unknown() -> None:
    """A collector that does not have a metric is not one in which nothing happened."""
    counts = {each.what: each.count for each in health.troubles(health.read(exposed()))}
    assert counts["spans and records rejected"] == 0
    assert counts["commits failed"] is None


def test_no_metric_at_all_is_no_clean_record() -> None:
    """Without the counter of requests nobody knows whether one was refused."""
    assert {each.count for each in health.troubles([])} == {None}


def test_mean_of_a_histogram_is_in_milliseconds() -> None:
    """The sum of seconds by the count; unknown where nothing was measured."""
    assert health.mean_ms(health.read(exposed()), "lastword_commit_seconds") == pytest.approx(30.0)
    assert health.mean_ms([], "lastword_commit_seconds") is None


def test_total_sums_over_the_labels_that_are_not_given() -> None:
    """All signals together, or one of them."""
    samples = health.read(exposed())
    assert health.total(samples, "lastword_otlp_requests_total") == 57
    assert health.total(samples, "lastword_otlp_requests_total", signal="traces") == 7


@pytest.mark.parametrize(
    ("count", "expected"), [(None, "–"), (0, "0 B"), (1023, "1023 B"), (4_437_578, "4.2 MiB"), (2**50, "1024 TiB")]
)
def test_bytes_have_a_unit_of_their_size(count: int | None, expected: str) -> None:
    """Never a figure of ten digits, and nothing where it is not known."""
    assert size(count) == expected
