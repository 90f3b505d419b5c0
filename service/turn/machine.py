"""One turn's passage through the machine: the transitions it made and when.

Owns the record from which both `stageTimings` and the span tree are derived, so that they cannot disagree. Times are nanoseconds since
acceptance, read by the caller: there is no clock in here. Invariant: transitions are legal and their times never go back.
"""

from __future__ import annotations

from msgspec import Struct

from lastword.states import INITIAL, TERMINALS, Signal, State, step


class Transition(Struct, frozen=True):
    """One move of the machine, `at_ns` after acceptance."""

    signal: Signal
    source: State
    target: State
    at_ns: int


class Interval(Struct, frozen=True):
    """A stay in one state, from and to in nanoseconds since acceptance."""

    state: State
    start_ns: int
    end_ns: int

    @property
    def duration_ns(self) -> int:
        """Length of the stay."""
        return self.end_ns - self.start_ns


class TurnMachine:
    """The state of one turn, and how it came there. Used by the turn's worker alone."""

    def __init__(self) -> None:
        self.state = INITIAL
        self.transitions: list[Transition] = []
        self.first_token_ns: int | None = None

    @property
    def visible(self) -> bool:
        """Whether text was shown: from then on nothing is retried and no error is sent."""
        return self.first_token_ns is not None

    @property
    def ended(self) -> bool:
        """Whether a terminal was appended."""
        return self.state in TERMINALS

    def step(self, signal: Signal, at_ns: int) -> State:
        """Moves the turn; returns its new state.

        Raises:
            IllegalTransition: the table has no such edge; nothing changed.
            ValueError: the time lies before the last transition's.
        """
        if self.transitions and at_ns < self.transitions[-1].at_ns:
            raise ValueError(
                f"{signal} at {at_ns} ns lies before {self.transitions[-1].signal} at {self.transitions[-1].at_ns} ns"
            )
        target = step(self.state, signal)
        self.transitions.append(Transition(signal, self.state, target, at_ns))
        if signal is Signal.FIRST_CHUNK:
            self.first_token_ns = at_ns
        self.state = target
        return target

    def intervals(self) -> list[Interval]:
        """Every finished stay, in order. The state that the turn is in has not finished and is not here."""
        starts = [0, *(transition.at_ns for transition in self.transitions)]
        return [
            Interval(transition.source, start, transition.at_ns)
            for start, transition in zip(starts, self.transitions, strict=False)
        ]
