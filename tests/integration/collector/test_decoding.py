"""Large bodies are decoded by another process: what happens to it happens to one request, and it never outlives the collector."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.collector.process import Program, processes
from tests.support.otlp import spans
from tests.support.product import wait_for

LARGE = 2000
"""Spans of a body that is worth the way."""


@pytest.fixture
def program(tmp_path):
    """A collector."""
    program = Program(tmp_path)
    program.start()
    yield program
    if program.process.poll() is None:
        program.stop()


def decoders(program):
    """The processes beside the collector's own."""
    return processes(program)[1:]


def test_a_decoder_that_is_killed_costs_one_answer(program):
    """It is started by the first large body. Killed, the next body is answered 503 with `Retry-After`, the one after it is stored, and the metric tells."""
    assert program.post("traces", spans(5).SerializeToString()).status_code == 200
    assert decoders(program) == []
    assert program.post("traces", spans(LARGE).SerializeToString()).status_code == 200
    (one,) = decoders(program)
    os.kill(int(one.name), signal.SIGKILL)
    body = spans(LARGE).SerializeToString()
    answer = program.post("traces", body)
    assert (answer.status_code, answer.headers.get("retry-after")) == (503, "1")
    assert program.post("traces", body).status_code == 200
    assert program.rows("select count(*), count(distinct span_id) from spans") == [[2 * LARGE + 5, 2 * LARGE + 5]]
    assert "lastword_decoders_ended 1.0" in program.metrics()


def test_large_bodies_do_not_wait_for_one_that_takes_seconds(program):
    """Millions of empty parts are decoded for seconds: what comes meanwhile is stored before that is answered, by a second process, which ends."""
    slow = b"\x0a\x00" * 4_000_000
    with ThreadPoolExecutor(1) as sender:
        answer = sender.submit(program.post, "traces", slow)
        wait_for(lambda: decoders(program), 30, "it is decoded")
        assert program.post("traces", spans(LARGE).SerializeToString()).status_code == 200
        early = not answer.done()
        assert answer.result().status_code == 200
    assert early
    assert program.post("traces", spans(LARGE).SerializeToString()).status_code == 200
    assert len(decoders(program)) == 1


@pytest.mark.parametrize("kill", [True, False])
def test_a_decoder_ends_with_the_collector(program, kill):
    """By SIGKILL or as it should."""
    assert program.post("traces", spans(LARGE).SerializeToString()).status_code == 200
    (one,) = decoders(program)
    program.kill() if kill else program.stop()
    wait_for(lambda: not one.exists(), 30, "the decoder has ended")
