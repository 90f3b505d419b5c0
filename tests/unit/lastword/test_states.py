"""The machine's table, read as a graph."""

import pytest

from lastword.errors import IllegalTransition
from lastword.states import INITIAL, PHASE_OF, STAGE_OF, TERMINALS, TRANSITIONS, VISIBLE, Signal, Stage, State, diagram, step


def reachable(start):
    seen, open_ = {start}, [start]
    while open_:
        state = open_.pop()
        for (source, _), target in TRANSITIONS.items():
            if source is state and target not in seen:
                seen.add(target)
                open_.append(target)
    return seen


def test_every_state_is_reached_and_reaches_a_terminal():
    """No state is left over, and from none there is no way to an end."""
    assert reachable(INITIAL) == set(State)
    assert all(reachable(state) & TERMINALS for state in State)


@pytest.mark.parametrize("state", sorted(VISIBLE))
def test_visible_text_never_leads_to_a_retry_or_an_error(state):
    """After visible text there is no path to an attempt, a fallback, a failure or an error."""
    assert not reachable(state) & {State.ATTEMPT, State.BACKOFF, State.FALLBACK, State.FAILING, State.ERROR}


def test_terminals_have_no_way_out():
    """A turn that has ended stays ended."""
    assert not {source for source, _ in TRANSITIONS} & TERMINALS


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("signal", Signal)
def test_step_follows_the_table_and_nothing_else(state, signal):
    """Every pair is an edge of the table or a typed error that names both."""
    if (state, signal) in TRANSITIONS:
        assert step(state, signal) is TRANSITIONS[state, signal]
    else:
        with pytest.raises(IllegalTransition, match=f"'{state}' on signal '{signal}'"):
            step(state, signal)


def test_every_stage_has_a_state_and_a_phase():
    """Ten stages, each timed by at least one state, each in one phase."""
    assert set(STAGE_OF.values()) == set(Stage) == set(PHASE_OF)


def test_diagram_shows_every_state():
    """The picture is drawn from the table."""
    picture = diagram()
    assert all(state.value in picture for state in State)
