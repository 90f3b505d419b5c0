from __future__ import annotations

import json
from typing import Any

import pytest

from collector.synthetic.world import SyntheticTurn
from dashboard.trace import AGREEMENT_MS, agreement, read_trace, timeline
from lastword import names
from lastword.events import CompletionStatus, Reason
from tests.unit.dashboard.trees import span_rows, turn_row, turns

TURNS = turns()


def first(status: CompletionStatus, *, attempts: int = 1) -> SyntheticTurn:
    return next(
        turn
        for turn in TURNS
        if turn.done
        and turn.done.done
        and turn.done.done.completion_status is status
        and len(turn.done.done.attempts) >= attempts
    )


def span(span_id: str, parent: str | None, name: str = "x", start: int = 0, **attributes: Any) -> dict[str, Any]:
    return {
        "span_id": span_id,
        "parent_span_id": parent,
        "name": name,
        "kind": "INTERNAL",
        "status": "UNSET",
        "status_message": None,
        "start_ns": start,
        "duration_ns": 1_000_000,
        "attributes": json.dumps(attributes),
        "events": "[]",
    }


def test_every_received_span_has_one_row() -> None:
    """Whatever the order in which spans arrive."""
    for turn in TURNS[:50]:
        rows = span_rows(turn)
        assert len(read_trace(rows).rows) == len(read_trace(rows[::-1]).rows) == len(rows)


def test_rows_stand_under_their_parents() -> None:
    """Depth first: the root, then each stage followed by what is below it; the viewers last."""
    trace = read_trace(span_rows(first(CompletionStatus.INTERRUPTED)))
    assert trace.rows[0].name == names.SPAN_TURN
    assert trace.rows[-1].name == names.SPAN_DELIVER
    assert all(after.depth <= before.depth + 1 for before, after in zip(trace.rows, trace.rows[1:], strict=False))


def test_span_without_its_parent_is_shown_as_such() -> None:
    """A lost parent does not lose its children."""
    trace = read_trace([span("a", None, names.SPAN_TURN), span("b", "lost")])
    assert [(row.orphan, row.note) for row in trace.rows] == [(False, ""), (True, "parent not received")]


def test_parents_that_form_a_loop_end() -> None:
    """Spans that name each other as parents are shown once each."""
    trace = read_trace([span("a", None, names.SPAN_TURN), span("b", "c"), span("c", "b"), span("d", "d")])
    assert len(trace.rows) == 4


def test_trace_without_root_counts_from_its_first_span() -> None:
    """A turn that never ended has stages and no root."""
    trace = read_trace([span("b", "root", start=5_000_000), span("c", "root", start=9_000_000)])
    assert not trace.has_root
    assert [row.start_ms for row in trace.rows] == [0.0, 4.0]


def test_record_agrees_with_trace_for_every_synthetic_turn() -> None:
    """Both come from the same readings: no comparison may be off by even a millisecond."""
    for turn in TURNS:
        off = [row for row in agreement(turn_row(turn), read_trace(span_rows(turn))) if row.agrees is False or row.difference]
        assert off == []


@pytest.mark.parametrize(("shift_ms", "agrees"), [(AGREEMENT_MS, True), (AGREEMENT_MS + 1, False)])
def test_agreement_ends_beyond_its_tolerance(shift_ms: int, agrees: bool) -> None:
    """Five milliseconds agree, six do not, and the difference says which way."""
    turn = first(CompletionStatus.SUCCESS)
    row = turn_row(turn)
    row["auth_ms"] += shift_ms
    compared = next(each for each in agreement(row, read_trace(span_rows(turn))) if each.what == "auth")
    assert (compared.agrees, compared.difference) == (agrees, -shift_ms)


def test_status_that_differs_is_seen() -> None:
    """A record that says success beside a trace that says interrupted is a difference, not a rounding."""
    turn = first(CompletionStatus.INTERRUPTED)
    row = turn_row(turn) | {"completion_status": "success"}
    assert {each.what for each in agreement(row, read_trace(span_rows(turn))) if each.agrees is False} == {"completionStatus"}


def test_missing_side_is_neither_agreement_nor_difference() -> None:
    """A stage that only one side knows cannot be judged."""
    turn = first(CompletionStatus.SUCCESS)
    spans = [row for row in span_rows(turn) if row["name"] != names.SPAN_FINALIZE]
    compared = next(each for each in agreement(turn_row(turn), read_trace(spans)) if each.what == "finalize")
    assert compared.agrees is None
    assert compared.difference is None


def test_partial_turn_is_outlined_where_it_broke() -> None:
    """Root, attempt and stream of an interrupted turn are partial, with the reason; nothing else is."""
    turn = first(CompletionStatus.INTERRUPTED)
    rows = read_trace(span_rows(turn)).rows
    assert {row.name for row in rows if row.tone == "partial"} == {names.SPAN_TURN, names.SPAN_ATTEMPT, names.SPAN_STREAM}
    assert turn.done is not None
    assert turn.done.done is not None
    assert str(turn.done.done.reason) in rows[0].note


def test_failed_attempt_says_what_was_decided() -> None:
    """An attempt that failed before the first token says so, and that it was tried again."""
    turn = first(CompletionStatus.SUCCESS, attempts=2)
    failed = next(row for row in read_trace(span_rows(turn)).rows if row.name == names.SPAN_ATTEMPT)
    assert failed.tone == "error"
    assert failed.note.endswith("before first token: retried")


def test_reader_who_left_is_no_error() -> None:
    """A turn whose reader left is partial by its own attribute, never in error."""
    turn = next(turn for turn in TURNS if turn.done and turn.done.done and turn.done.done.reason is Reason.CLIENT_DISCONNECTED)
    rows = read_trace(span_rows(turn)).rows
    assert rows[0].tone == "partial"
    assert rows[0].status != "ERROR"


def test_timeline_is_in_order_and_ends_with_the_terminal() -> None:
    """Accepted comes first; the terminal is there with its reason; the first token is named once."""
    turn = first(CompletionStatus.INTERRUPTED)
    moments = timeline(read_trace(span_rows(turn)), turn_row(turn))
    assert [moment.at_ms for moment in moments] == sorted(moment.at_ms for moment in moments)
    assert moments[0].what == "accepted"
    assert [moment.what for moment in moments].count("first visible token") == 1
    terminal = next(moment for moment in moments if moment.what.startswith("done"))
    assert terminal.tone == "partial"
