"""The turn's state machine, as data.

Owns the states, the signals, the one transition table, and which timed stage each state belongs to. Knows no clock, thread, HTTP or
telemetry. Invariants that the tests read off the table: nothing leads from visible text back to an attempt or to `error`, and
every state reaches a terminal.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from lastword.errors import IllegalTransition


class State(StrEnum):
    """Where a turn is."""

    ACCEPTED = "accepted"
    AUTH = "auth"
    PRECHECK = "precheck"
    CONTEXT = "context"
    ROUTE = "route"
    ACKNOWLEDGING = "acknowledging"
    ACKNOWLEDGED = "acknowledged"
    RETRIEVAL = "retrieval"
    AGENT_SETUP = "agent_setup"
    ATTEMPT = "attempt"
    BACKOFF = "backoff"
    FALLBACK = "fallback"
    STREAMING = "streaming"
    SETTLING = "settling"
    POST_PROCESS = "post_process"
    FINALIZE = "finalize"
    FAILING = "failing"
    DONE = "done"
    ERROR = "error"


class Signal(StrEnum):
    """What moves a turn from one state to the next."""

    BEGIN = "begin"
    AUTHORIZED = "authorized"
    ADMITTED = "admitted"
    CONTEXT_LOADED = "context_loaded"
    ROUTED = "routed"
    ACK_APPENDED = "ack_appended"
    RETRIEVE = "retrieve"
    SET_UP = "set_up"
    TRY = "try"
    ATTEMPT_FAILED = "attempt_failed"
    FALL_BACK = "fall_back"
    FIRST_CHUNK = "first_chunk"
    LAST_CONTENT = "last_content"
    PROCESS = "process"
    FINALIZE = "finalize"
    FAIL = "fail"
    DONE_APPENDED = "done_appended"
    ERROR_APPENDED = "error_appended"


class Phase(StrEnum):
    """The three phases of a turn, with the colour groups that charts use."""

    BEGINNING = "beginning"
    MIDDLE = "middle"
    END = "end"


class Stage(StrEnum):
    """A timed step of a turn. The value is its key in `stageTimings` on the wire (milliseconds)."""

    AUTH = "authMs"
    PRECHECK = "precheckMs"
    CONTEXT = "conversationContextMs"
    ROUTE = "routeMs"
    RETRIEVAL = "retrievalMs"
    AGENT_SETUP = "agentSetupMs"
    MODEL_WAIT = "modelWaitMs"
    STREAM = "streamMs"
    POST_PROCESS = "postProcessMs"
    FINALIZE = "finalizeMs"


_S, _G = State, Signal

TRANSITIONS: Mapping[tuple[State, Signal], State] = MappingProxyType(
    {
        # Beginning: everything that may still be answered with an HTTP status.
        (_S.ACCEPTED, _G.BEGIN): _S.AUTH,
        (_S.AUTH, _G.AUTHORIZED): _S.PRECHECK,
        (_S.PRECHECK, _G.ADMITTED): _S.CONTEXT,
        (_S.CONTEXT, _G.CONTEXT_LOADED): _S.ROUTE,
        (_S.ROUTE, _G.ROUTED): _S.ACKNOWLEDGING,
        (_S.ACKNOWLEDGING, _G.ACK_APPENDED): _S.ACKNOWLEDGED,
        # Middle: a route without retrieval goes straight to the agent's set-up.
        (_S.ACKNOWLEDGED, _G.RETRIEVE): _S.RETRIEVAL,
        (_S.ACKNOWLEDGED, _G.SET_UP): _S.AGENT_SETUP,
        (_S.RETRIEVAL, _G.SET_UP): _S.AGENT_SETUP,
        (_S.AGENT_SETUP, _G.TRY): _S.ATTEMPT,
        (_S.ATTEMPT, _G.ATTEMPT_FAILED): _S.BACKOFF,
        (_S.BACKOFF, _G.TRY): _S.ATTEMPT,
        (_S.BACKOFF, _G.FALL_BACK): _S.FALLBACK,
        (_S.ACKNOWLEDGED, _G.FALL_BACK): _S.FALLBACK,
        (_S.RETRIEVAL, _G.FALL_BACK): _S.FALLBACK,
        (_S.AGENT_SETUP, _G.FALL_BACK): _S.FALLBACK,
        # The commit point: from here on the provider is never called again for visible text.
        (_S.ATTEMPT, _G.FIRST_CHUNK): _S.STREAMING,
        (_S.FALLBACK, _G.FIRST_CHUNK): _S.STREAMING,
        (_S.STREAMING, _G.LAST_CONTENT): _S.SETTLING,
        # End. A turn that showed nothing (cancelled, refused) is processed too.
        (_S.SETTLING, _G.PROCESS): _S.POST_PROCESS,
        (_S.ACKNOWLEDGED, _G.PROCESS): _S.POST_PROCESS,
        (_S.RETRIEVAL, _G.PROCESS): _S.POST_PROCESS,
        (_S.AGENT_SETUP, _G.PROCESS): _S.POST_PROCESS,
        (_S.ATTEMPT, _G.PROCESS): _S.POST_PROCESS,
        (_S.BACKOFF, _G.PROCESS): _S.POST_PROCESS,
        (_S.FALLBACK, _G.PROCESS): _S.POST_PROCESS,
        (_S.POST_PROCESS, _G.FINALIZE): _S.FINALIZE,
        (_S.FINALIZE, _G.DONE_APPENDED): _S.DONE,
        # Failure: possible only while nothing is visible. Streaming, settling and what follows have no such edge.
        (_S.AUTH, _G.FAIL): _S.FAILING,
        (_S.PRECHECK, _G.FAIL): _S.FAILING,
        (_S.CONTEXT, _G.FAIL): _S.FAILING,
        (_S.ROUTE, _G.FAIL): _S.FAILING,
        (_S.ACKNOWLEDGING, _G.FAIL): _S.FAILING,
        (_S.ACKNOWLEDGED, _G.FAIL): _S.FAILING,
        (_S.RETRIEVAL, _G.FAIL): _S.FAILING,
        (_S.AGENT_SETUP, _G.FAIL): _S.FAILING,
        (_S.ATTEMPT, _G.FAIL): _S.FAILING,
        (_S.BACKOFF, _G.FAIL): _S.FAILING,
        (_S.FALLBACK, _G.FAIL): _S.FAILING,
        (_S.FAILING, _G.ERROR_APPENDED): _S.ERROR,
    }
)
"""The machine. A pair that is not a key is an illegal transition."""

INITIAL = State.ACCEPTED
TERMINALS = frozenset({State.DONE, State.ERROR})
VISIBLE = frozenset({State.STREAMING, State.SETTLING})
"""States that are entered only after text was shown."""

STAGE_OF: Mapping[State, Stage] = MappingProxyType(
    {
        State.AUTH: Stage.AUTH,
        State.PRECHECK: Stage.PRECHECK,
        State.CONTEXT: Stage.CONTEXT,
        State.ROUTE: Stage.ROUTE,
        State.RETRIEVAL: Stage.RETRIEVAL,
        State.AGENT_SETUP: Stage.AGENT_SETUP,
        State.ATTEMPT: Stage.MODEL_WAIT,
        State.BACKOFF: Stage.MODEL_WAIT,
        State.FALLBACK: Stage.MODEL_WAIT,
        State.STREAMING: Stage.STREAM,
        State.POST_PROCESS: Stage.POST_PROCESS,
        State.FINALIZE: Stage.FINALIZE,
        State.FAILING: Stage.FINALIZE,
    }
)
"""The stage that each state's time counts towards. Time in a state that is not here is unaccounted, and charts show it as such."""

PHASE_OF: Mapping[Stage, Phase] = MappingProxyType(
    {
        Stage.AUTH: Phase.BEGINNING,
        Stage.PRECHECK: Phase.BEGINNING,
        Stage.CONTEXT: Phase.BEGINNING,
        Stage.ROUTE: Phase.BEGINNING,
        Stage.RETRIEVAL: Phase.MIDDLE,
        Stage.AGENT_SETUP: Phase.MIDDLE,
        Stage.MODEL_WAIT: Phase.MIDDLE,
        Stage.STREAM: Phase.MIDDLE,
        Stage.POST_PROCESS: Phase.END,
        Stage.FINALIZE: Phase.END,
    }
)


def step(state: State, signal: Signal) -> State:
    """The state that follows.

    Raises:
        IllegalTransition: the table has no such edge.
    """
    try:
        return TRANSITIONS[state, signal]
    except KeyError:
        raise IllegalTransition(state, signal) from None


def diagram() -> str:
    """The machine as a Mermaid state diagram, drawn from the table."""
    lines = ["stateDiagram-v2", f"    [*] --> {INITIAL}"]
    failing: list[State] = []
    for (source, signal), target in TRANSITIONS.items():
        if target is State.FAILING:
            failing.append(source)  # eleven edges with one meaning: drawn as a note, so that the picture stays readable
        else:
            lines.append(f"    {source} --> {target}: {signal}")
    lines += [f"    {state} --> [*]" for state in sorted(TERMINALS)]
    lines.append("    note left of failing: fail leads here from " + ", ".join(failing))
    return "\n".join(lines) + "\n"
