"""The benchmark of the service runs whole, in its quick form, whose figures mean nothing; and its goals are judged as they should be."""

import sys

import pytest

from benchmarks.service import load
from benchmarks.service.measure import Row, Table, broken_of
from benchmarks.service.report import as_markdown, goals
from tests.support.product import captured


@pytest.mark.timeout(150)
def test_quick_run_measures_every_part_but_the_one_that_installs_litellm():
    """Every lane answers every turn whole; the tables and the goals are printed."""
    parts = ("--only", "bridges", "--only", "viewers", "--only", "starts")
    run = captured([sys.executable, "-m", "benchmarks.service", "--quick", *parts], timeout_s=140)
    assert run.returncode == 0, run.stdout + run.stderr
    assert all(f"\n| {lane} | " in run.stdout for lane in ("bare", "sse-starlette", "to_thread", "lastword", "stuck readers"))
    assert "| no turn is broken | 0 broken | met |" in run.stdout


def table(name, broken=0, **lanes):
    return Table(name=name, what="x", rows=[Row(lane=lane, figures=figures) for lane, figures in lanes.items()], broken=broken)


@pytest.mark.parametrize(("ours", "met"), [(29.9, False), (30.0, True)])
def test_goal_is_met_at_its_limit_and_not_below(ours, met):
    """Three times is three times."""
    tables = [Table(name="no pacing", what="x", rows=[Row(lane="sse-starlette", figures={"chunks/s": 10.0})], broken=0)]
    tables[0].rows.append(Row(lane="lastword", figures={"chunks/s": ours}))
    assert [goal.met for goal in goals(tables)] == [met, True]


def test_broken_turn_is_told():
    """However good the figures are."""
    tables = [table("starts", broken=2, lastword={"ack p50 ms": 1.0, "ack worst ms": 101.0})]
    assert [(goal.measured, goal.met) for goal in goals(tables)] == [("101 ms", False), ("2 broken", False)]
    assert "| no turn is broken | 2 broken | not met |" in as_markdown(tables)


def test_pieces_in_the_answer_are_not_counted_again():
    """The terminal repeats the text; what stands behind its mark is no chunk."""
    reader = load._Reader(load.Wanted(port=1, question="x"), None)
    reader.sent_ns = 1_000
    head = b"HTTP/1.1 200 OK\r\nTurn-Id: trn_7\r\n\r\n"
    reader.pieces = [
        (5_000, head + b"event: chunk\ndata: @20"),
        (6_000, b"00@lorem\n\nevent: do"),
        (9_000, b"ne\ndata: @2000@lorem"),
    ]
    seen = load._seen(load.Wanted(port=1, question="x"), reader, 1.0)
    assert (seen.chunks, seen.complete, seen.turn_id) == (1, True, "trn_7")
    assert seen.delays_s == [4e-06]
    assert seen.first_s == 4e-06
    assert broken_of([seen], 1) == 0
    assert broken_of([seen], 2) == 1
