"""Spans decoded in another process are those that are decoded here; a process that ends harms one request."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from collector.receive import decoders as decoding
from collector.receive import weight
from collector.receive.attributes import AttributeLimits, Memo
from collector.receive.decoders import Decoders, Gone
from collector.receive.encodings import PROTOBUF, parse_spans
from collector.receive.spans import READ, span_rows
from collector.store.batches import table_of
from collector.store.tables import SPANS
from collector.synthetic.requests import span_request
from collector.synthetic.turns import synthesize
from tests.support.otlp import spans
from tests.support.product import wait_for

LIMITS = AttributeLimits(20, 100)
pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def decoders():
    """One process."""
    some = Decoders(1, LIMITS)
    yield some
    some.close()


def pid_of(decoders):
    """The process, which is free."""
    process = decoders._free.get()
    decoders._free.put(process)
    return process._child.pid


def test_rows_are_those_of_decoding_here(decoders):
    """Of realistic turns, twice through the same process: the same columns, values and types; and so again for a body without spans."""
    body = span_request(list(synthesize(40, seed=3))).SerializeToString()
    rows, _ = span_rows(parse_spans(PROTOBUF, body), Memo(LIMITS, READ))
    for _ in range(2):
        outcome, table = decoders.decode(body)
        assert (outcome.rejected, outcome.undecodable, outcome.too_heavy) == ([], None, None)
        assert table.equals(table_of(rows, SPANS))
    assert decoders.decode(b"")[1].equals(table_of([], SPANS))


def test_what_cannot_be_read_is_told_as_here(decoders):
    """A rejected span by its reason, a body that is none by the decoder's own words, and one of too many parts."""
    request = spans(3)
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = b"short"
    outcome, table = decoders.decode(request.SerializeToString())
    assert table["name"].to_pylist() == ["span 0", "span 2"]
    assert ["span 1" in reason and "16" in reason for reason in outcome.rejected] == [True]
    outcome, table = decoders.decode(b"\xff" * 1000)
    assert outcome.undecodable
    assert not table.num_rows
    outcome, table = decoders.decode(b"\x0a\x00" * (weight.MAX_PARTS + 1))
    assert "parts" in outcome.too_heavy
    assert not table.num_rows


def test_a_process_that_ends_costs_one_request(decoders):
    """Whoever asked is told that it is gone; the next one is answered by a new process, and the end is counted."""
    body = spans(2).SerializeToString()
    decoders.decode(body)
    first = pid_of(decoders)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(Gone):
        decoders.decode(body)
    assert decoders.decode(body)[1].num_rows == 2
    assert pid_of(decoders) != first
    assert decoders.ended == 1


def test_signals_to_the_whole_group_do_not_end_it(decoders):
    """Ctrl-C and SIGTERM mean the collector, which may still have to decode what it took."""
    body = spans(2).SerializeToString()
    decoders.decode(body)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(pid_of(decoders), number)
    time.sleep(0.2)
    assert decoders.decode(body)[1].num_rows == 2
    assert decoders.ended == 0


def test_a_process_that_does_nothing_is_ended(decoders, monkeypatch):
    """Stopped, it keeps its request waiting for no longer than is allowed; the next one is answered by another."""
    body = spans(3000).SerializeToString() * 8  # more than a pipe holds
    assert decoders.decode(body)[1].num_rows == 24_000
    os.kill(pid_of(decoders), signal.SIGSTOP)
    monkeypatch.setattr(decoding, "ANSWER_S", 0.3)
    monkeypatch.setattr(decoding, "_END_S", 0.3)
    with pytest.raises(Gone):
        decoders.decode(body)
    monkeypatch.undo()
    assert decoders.decode(body)[1].num_rows == 24_000


def test_a_body_that_takes_long_does_not_hold_up_the_others(decoders, monkeypatch):
    """While one has the process, the others share one more, which is ended when neither has work."""
    monkeypatch.setattr(decoding, "HELD_UP_S", 0.05)
    others = children()  # of tests before this one, whose servers still run
    body = spans(2).SerializeToString()
    decoders.decode(body)
    first = pid_of(decoders)
    held = decoders._take()  # as whoever sends something that takes for ever
    assert decoders.decode(body)[1].num_rows == 2
    second = pid_of(decoders)
    assert decoders.decode(body)[1].num_rows == 2
    assert (pid_of(decoders), second != first) == (second, True)
    decoders._give_back(held)
    assert children() - others == {second}
    assert decoders.decode(body)[1].num_rows == 2
    assert (children() - others, decoders.ended) == ({second}, 0)


def children():
    """The processes that this thread has started and that have not ended."""
    return set(map(int, Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text(encoding="ascii").split()))


def test_close_ends_the_process():
    """None is left behind, started or not."""
    some = Decoders(2, LIMITS)
    some.decode(spans(1).SerializeToString())
    pid = pid_of(some)
    some.close()
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), 30, "the process has ended")
