"""The grammar: what a turn's events may be."""

import pytest

from lastword.errors import ContractViolation
from lastword.events import CompletionStatus, Ext
from lastword.grammar import Place, TurnGrammar
from tests.unit.lastword.samples import ACK, DONE, TURN, WHOLE, chunk, done, error


def check(events):
    grammar = TurnGrammar()
    for event in events:
        grammar.feed(event)
    return grammar


def ext(seq):
    return Ext(type="novel", turn_id=TURN, seq=seq, t_ms=1)


@pytest.mark.parametrize(
    "events",
    [
        WHOLE,
        [ACK, error(2)],
        [ACK, ext(2), error(3)],
        [error(1)],
        [ACK, done((), CompletionStatus.CANCELLED)],
        [ACK, chunk(2, "Hello"), done(("Hello",), CompletionStatus.INTERRUPTED, partial=True)],
    ],
)
def test_grammar_accepts_a_turn(events):
    """Whole, failed, silent, partial: every legal turn ends with its terminal."""
    grammar = check(events)
    assert (grammar.place, grammar.terminal) == (Place.ENDED, events[-1])


@pytest.mark.parametrize(
    ("events", "rule"),
    [
        ([chunk(1, "x")], "chunk_after_ack"),
        ([ACK, chunk(3, "x")], "seq_contiguous"),
        ([chunk(2, "x")], "seq_contiguous"),
        ([*WHOLE, error(5)], "one_terminal"),
        ([ACK, chunk(2, "x"), error(3)], "no_error_after_text"),
        ([ACK, chunk(2, "Hello"), done(("Hello",), chunk_count=2)], "chunk_count"),
        ([ACK, chunk(2, "Hello"), done(("Hello",), streamed_sha256="0" * 64)], "streamed_sha256"),
        ([ACK, chunk(2, "Hello"), done(("Hello",), CompletionStatus.INTERRUPTED)], "partial_matches_status"),
        ([ACK, done((), CompletionStatus.CANCELLED, partial=True)], "partial_matches_status"),
        ([ext(1)], "ext_after_ack"),
    ],
)
def test_grammar_names_the_broken_rule(events, rule):
    """Every mutation of a legal turn is found, by the name of the rule that it breaks."""
    with pytest.raises(ContractViolation) as caught:
        check(events)
    assert caught.value.rule == rule


def test_grammar_refuses_a_second_ack_and_a_foreign_turn():
    """One acknowledgement, one turn in a stream."""
    other = type(ACK)(**{name: getattr(ACK, name) for name in ACK.__struct_fields__} | {"seq": 2})
    with pytest.raises(ContractViolation, match="ack_first"):
        check([ACK, other])
    foreign = type(DONE)(turn_id="trn_" + "0" * 32, seq=2, t_ms=0, metadata=DONE.metadata)
    with pytest.raises(ContractViolation, match="one_turn"):
        check([ACK, foreign])
