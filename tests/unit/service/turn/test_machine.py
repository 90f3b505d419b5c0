"""The machine of one turn, and the timings made of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastword.errors import IllegalTransition
from lastword.events import Timings
from lastword.states import TRANSITIONS, Signal, State
from service.turn.machine import TurnMachine
from service.turn.timings import stage_timings

MS = 1_000_000
WHOLE = [
    (Signal.BEGIN, 1),
    (Signal.AUTHORIZED, 3),
    (Signal.ADMITTED, 8),
    (Signal.CONTEXT_LOADED, 10),
    (Signal.ROUTED, 11),
    (Signal.ACK_APPENDED, 12),
    (Signal.RETRIEVE, 13),
    (Signal.SET_UP, 33),
    (Signal.TRY, 35),
    (Signal.ATTEMPT_FAILED, 135),
    (Signal.TRY, 235),
    (Signal.FIRST_CHUNK, 500),
    (Signal.LAST_CONTENT, 900),
    (Signal.PROCESS, 910),
    (Signal.FINALIZE, 915),
    (Signal.DONE_APPENDED, 940),
]


def walk(steps):
    machine = TurnMachine()
    for signal, at_ms in steps:
        machine.step(signal, at_ms * MS)
    return machine


def test_timings_of_a_retried_turn_are_its_transitions():
    """Model wait reaches over both attempts and the pause between them; what belongs to no stage is left out."""
    machine = walk(WHOLE)
    assert stage_timings(machine.intervals(), first_token_ns=machine.first_token_ns, total_ns=940 * MS) == Timings(
        auth_ms=2,
        precheck_ms=5,
        conversation_context_ms=2,
        route_ms=1,
        retrieval_ms=20,
        agent_setup_ms=2,
        model_wait_ms=465,
        stream_ms=400,
        post_process_ms=5,
        finalize_ms=25,
        first_token_ms=500,
        total_ms=940,
    )


def test_timings_of_a_stage_that_did_not_run_are_absent():
    """Absent, not zero."""
    machine = walk([(Signal.BEGIN, 0), (Signal.FAIL, 2), (Signal.ERROR_APPENDED, 3)])
    assert stage_timings(machine.intervals(), first_token_ns=None, total_ns=3 * MS) == Timings(
        auth_ms=2, finalize_ms=1, first_token_ms=None, total_ms=3
    )


def test_machine_refuses_an_illegal_step_and_stays():
    """An illegal transition raises a typed error and changes nothing."""
    machine = walk(WHOLE[:5])
    with pytest.raises(IllegalTransition):
        machine.step(Signal.DONE_APPENDED, 20 * MS)
    assert (machine.state, len(machine.transitions)) == (State.ACKNOWLEDGING, 5)


def test_machine_refuses_time_that_goes_back():
    """Times of transitions never decrease."""
    machine = walk(WHOLE[:2])
    with pytest.raises(ValueError, match="lies before"):
        machine.step(Signal.ADMITTED, 1)


@given(st.data())
def test_stages_never_sum_to_more_than_the_total(data):
    """On any legal walk, with any times, stages are disjoint and fit into the total."""
    machine = TurnMachine()
    now = 0
    for _ in range(40):
        signals = [signal for (state, signal) in TRANSITIONS if state is machine.state]
        if not signals:
            break
        now += data.draw(st.integers(0, 3 * MS))
        machine.step(data.draw(st.sampled_from(signals)), now)
    timings = stage_timings(machine.intervals(), first_token_ns=machine.first_token_ns, total_ns=now)
    stages = [
        value
        for name in timings.__struct_fields__
        if name not in ("first_token_ms", "total_ms") and (value := getattr(timings, name)) is not None
    ]
    assert sum(stages) <= timings.total_ms
    assert all(value >= 0 for value in stages)
