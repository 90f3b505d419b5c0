"""The benchmark of the collector runs whole on a few spans, whose figures mean nothing; and its goals are judged as they should be."""

import sys

import pytest

from benchmarks.collector.measure import Figures
from benchmarks.collector.report import as_markdown, goals
from benchmarks.collector.traffic import ATTRIBUTES, requests
from tests.support.product import captured


def figures(lane, per_s, **changes):
    """A lane's figures, with nothing out of the way but what a test says."""
    usual = {"shown_after_s": 0.1, "disk_bytes": 50.0, "killed_acknowledged": 10, "killed_lost": 0}
    return Figures(
        lane=lane, version="", acknowledged_per_s=per_s, queryable_per_s=per_s, cpu_s=1.0, peak_mib=1.0, **{**usual, **changes}
    )


@pytest.mark.parametrize(
    ("change", "goal"),
    [
        ({}, None),
        ({"per_s": 29_999}, "30,000 spans/s"),
        ({"shown_after_s": None}, "queryable within 2 s"),
        ({"shown_after_s": 2.1}, "queryable within 2 s"),
        ({"disk_bytes": 120.0}, "120 bytes"),
        ({"killed_lost": 1}, "SIGKILL"),
    ],
)
def test_goal_that_is_missed_is_said(change, goal):
    """Each goal is judged by its own figure."""
    found = [figures("plain way", 10_000), figures("lastword", **{"per_s": 31_000, **change})]
    missed = [text for text, _, met in goals(found) if not met]
    assert len(missed) == (goal is not None)
    assert goal is None or goal in missed[0]
    assert ("not met" in as_markdown(found)) == (goal is not None)


def test_twice_the_plain_way_is_judged_in_the_same_run():
    """Without the other lane nothing is said of it."""
    assert not any("plain" in text for text, _, _ in goals([figures("lastword", 40_000)]))
    assert [met for text, _, met in goals([figures("plain way", 20_001), figures("lastword", 40_000)]) if "plain" in text] == [
        False
    ]


def test_every_span_of_the_traffic_has_its_attributes():
    """512 spans a request but in the last, 15 attributes a span, no span twice."""
    made = requests(1200)
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    spans = [
        span
        for one in made
        for resource in ExportTraceServiceRequest.FromString(one.body).resource_spans
        for span in resource.scope_spans[0].spans
    ]
    assert [one.spans for one in made] == [512, 512, 176]
    assert len({span.span_id for span in spans}) == 1200
    assert {len(span.attributes) for span in spans} == {ATTRIBUTES}


@pytest.mark.slow
def test_benchmark_runs():
    """The lanes that need no installation, to their tables; nothing that was acknowledged is lost."""
    run = captured(
        [
            sys.executable,
            "-m",
            "benchmarks.collector",
            "--spans",
            "1000",
            "--only",
            "body only",
            "--only",
            "plain way",
            "--only",
            "lastword",
        ],
        timeout_s=110,
    )
    assert run.returncode == 0, run.stderr
    assert "| body only |" in run.stdout
    assert "| nothing acknowledged is lost by SIGKILL | 0 lost | met |" in run.stdout
