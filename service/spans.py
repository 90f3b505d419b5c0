"""The span tree of a turn, as data, built from its transitions when it has ended.

The tree mirrors the machine: the times are the transitions' own, so spans and `stageTimings` cannot disagree. Knows no OpenTelemetry; `telemetry` sends what is
built here. Times are nanoseconds since acceptance.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from lastword import names
from lastword.events import Usage
from lastword.states import Signal, State
from service.clock import as_datetime
from service.turn.journal import AttemptNote, CallNote, ToolNote
from service.turn.machine import TurnMachine

Value = str | bool | int | float | tuple[str, ...]
Attributes = dict[str, Value]
Kind = Literal["server", "client", "internal"]


class SpanEvent(Struct, frozen=True):
    """Something that happened at one moment inside a span."""

    name: str
    at_ns: int
    attributes: Attributes = field(default_factory=dict)


class Span(Struct, kw_only=True):
    """One span and what stands below it. `error_type` set means status ERROR."""

    name: str
    start_ns: int
    end_ns: int
    kind: Kind = "internal"
    attributes: Attributes = field(default_factory=dict)
    error_type: str | None = None
    events: list[SpanEvent] = field(default_factory=list)
    children: list[Span] = field(default_factory=list)


class TurnFacts(Struct, frozen=True, kw_only=True):
    """What the spans tell about a turn besides its transitions."""

    turn_id: str
    accepted_ns: int  # since 1970
    conversation_id: str | None
    provider: str
    route: str | None
    model_tier: str | None
    data_source: str | None
    top_k: int
    hits: int
    retrieval_error: str | None
    status: str | None
    partial: bool
    reason: str | None
    provider_fault: bool
    sources_count: int
    usage: Usage
    attempts: tuple[AttemptNote, ...]


_SPAN_OF_STATE = {
    State.AUTH: names.SPAN_AUTH,
    State.PRECHECK: names.SPAN_PRECHECK,
    State.CONTEXT: names.SPAN_CONTEXT,
    State.ROUTE: names.SPAN_ROUTE,
    State.RETRIEVAL: names.SPAN_RETRIEVAL,
    State.AGENT_SETUP: names.SPAN_AGENT_SETUP,
    State.STREAMING: names.SPAN_STREAM,
    State.POST_PROCESS: names.SPAN_POST_PROCESS,
    State.FINALIZE: names.SPAN_FINALIZE,
    State.FAILING: names.SPAN_FINALIZE,
}
"""States with a span of their own. Attempts have theirs from the journal, for one may reach over several states."""


def build_spans(machine: TurnMachine, facts: TurnFacts) -> Span:
    """The tree of an ended turn; the root ends with the machine's last transition."""
    end_ns = machine.transitions[-1].at_ns
    root = Span(name=names.SPAN_TURN, kind="server", start_ns=0, end_ns=end_ns, attributes=_root_attributes(machine, facts))
    root.events = _root_events(machine, facts)
    if facts.provider_fault:
        root.error_type = facts.reason
    for interval in machine.intervals():
        name = _SPAN_OF_STATE.get(interval.state)
        if name is None:
            continue
        span = Span(
            name=name, start_ns=interval.start_ns, end_ns=interval.end_ns, attributes={names.TURN_STAGE: interval.state.value}
        )
        if interval.state is State.RETRIEVAL:
            _fill_retrieval(span, facts)
        if interval.state is State.STREAMING and facts.partial and facts.provider_fault:
            span.error_type = facts.reason
        root.children.append(span)
    root.children += [_attempt_span(note, facts) for note in facts.attempts]
    root.children.sort(key=lambda span: span.start_ns)
    _mark(root, facts)
    return root


def _mark(span: Span, facts: TurnFacts) -> None:
    """Every span names its turn, so that one attribute finds them all."""
    span.attributes[names.TURN_ID] = facts.turn_id
    for child in span.children:
        _mark(child, facts)


def _root_attributes(machine: TurnMachine, facts: TurnFacts) -> Attributes:
    attributes: Attributes = {
        names.GEN_AI_OPERATION: names.OPERATION_TURN,
        names.OPENINFERENCE_KIND: "CHAIN",
        names.TURN_PARTIAL: facts.partial,
        names.TURN_VISIBLE: machine.visible,
        names.TURN_TOTAL_MS: machine.transitions[-1].at_ns // 1_000_000,
        names.SOURCES_COUNT: facts.sources_count,
        **_usage_attributes(facts.usage),
    }
    optional: dict[str, Value | None] = {
        names.TURN_ROUTE: facts.route,
        names.TURN_MODEL_TIER: facts.model_tier,
        names.TURN_COMPLETION_STATUS: facts.status,
        names.TURN_REASON: facts.reason,
        names.GEN_AI_CONVERSATION_ID: facts.conversation_id,
        names.SESSION_ID: facts.conversation_id,
        names.TURN_FIRST_TOKEN_MS: None if machine.first_token_ns is None else machine.first_token_ns // 1_000_000,
    }
    return attributes | _present(optional)


def _root_events(machine: TurnMachine, facts: TurnFacts) -> list[SpanEvent]:
    events = [SpanEvent(names.EVENT_FIRST_CHUNK, machine.first_token_ns)] if machine.first_token_ns is not None else []
    named = {"retry": names.EVENT_RETRY, "degrade": names.EVENT_DEGRADE, "fall_back": names.EVENT_FALLBACK}
    events += [
        SpanEvent(
            named[note.decision], note.end_ns, {names.ATTEMPT_NUMBER: note.n, names.ERROR_TYPE: note.error_type or note.outcome}
        )
        for note in facts.attempts
        if note.decision in named
    ]
    if not any(note.decision == "fall_back" for note in facts.attempts):
        events += [SpanEvent(names.EVENT_FALLBACK, t.at_ns) for t in machine.transitions if t.signal is Signal.FALL_BACK]
    return sorted(events, key=lambda event: event.at_ns)


def _fill_retrieval(span: Span, facts: TurnFacts) -> None:
    source = facts.data_source or "unknown"
    span.name = f"{names.SPAN_RETRIEVAL} {source}"
    span.kind = "client"
    span.error_type = facts.retrieval_error
    span.attributes |= {
        names.GEN_AI_OPERATION: names.OPERATION_RETRIEVAL,
        names.OPENINFERENCE_KIND: "RETRIEVER",
        names.GEN_AI_DATA_SOURCE_ID: source,
        names.GEN_AI_RETRIEVAL_TOP_K: facts.top_k,
        names.RETRIEVAL_HITS: facts.hits,
    }


def _attempt_span(note: AttemptNote, facts: TurnFacts) -> Span:
    attributes: Attributes = {
        names.ATTEMPT_NUMBER: note.n,
        names.ATTEMPT_OUTCOME: note.outcome,
        names.TURN_MODEL_TIER: note.model_tier,
        names.TURN_VISIBLE: note.visible,
        names.TURN_STAGE: State.ATTEMPT.value,
    }
    children = [_chat_span(call, facts) for call in note.calls] + [_tool_span(tool) for tool in note.tools]
    return Span(
        name=names.SPAN_ATTEMPT,
        start_ns=note.start_ns,
        end_ns=note.end_ns,
        attributes=attributes,
        error_type=note.error_type,
        children=sorted(children, key=lambda span: span.start_ns),
    )


def _chat_span(call: CallNote, facts: TurnFacts) -> Span:
    finish = "error" if call.error_type else call.stop_reason
    attributes: Attributes = {
        names.GEN_AI_OPERATION: names.OPERATION_CHAT,
        names.OPENINFERENCE_KIND: "LLM",
        names.GEN_AI_PROVIDER: facts.provider,
        names.GEN_AI_REQUEST_MODEL: call.model,
        **_usage_attributes(call.usage),
    }
    optional: dict[str, Value | None] = {
        names.GEN_AI_RESPONSE_MODEL: call.response_model,
        names.GEN_AI_RESPONSE_ID: call.response_id,
        names.GEN_AI_FINISH_REASONS: (finish,) if finish else None,
        names.GEN_AI_TIME_TO_FIRST_CHUNK: None if call.first_chunk_ns is None else (call.first_chunk_ns - call.start_ns) / 1e9,
        names.LANGFUSE_COMPLETION_START: None if call.first_chunk_ns is None else _iso(facts.accepted_ns + call.first_chunk_ns),
        names.GEN_AI_CONVERSATION_ID: facts.conversation_id,
    }
    return Span(
        name=f"{names.SPAN_CHAT} {call.model}",
        kind="client",
        start_ns=call.start_ns,
        end_ns=call.end_ns,
        attributes=attributes | _present(optional),
        error_type=call.error_type,
    )


def _iso(wall_ns: int) -> str:
    """A UTC time as ISO 8601 with microseconds."""
    return as_datetime(wall_ns).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _tool_span(tool: ToolNote) -> Span:
    return Span(
        name=f"{names.SPAN_EXECUTE_TOOL} {tool.name}",
        start_ns=tool.start_ns,
        end_ns=tool.end_ns,
        attributes={
            names.GEN_AI_OPERATION: names.OPERATION_TOOL,
            names.OPENINFERENCE_KIND: "TOOL",
            names.GEN_AI_TOOL_NAME: tool.name,
            names.GEN_AI_TOOL_CALL_ID: tool.call_id,
            names.TOOL_OUTCOME: tool.outcome.value,
            names.TOOL_HAS_RESULTS: tool.outcome.value == "results",
        },
        error_type=tool.error_type,
    )


def _usage_attributes(usage: Usage) -> Attributes:
    return {
        names.GEN_AI_INPUT_TOKENS: usage.input_tokens,
        names.GEN_AI_OUTPUT_TOKENS: usage.output_tokens,
        names.GEN_AI_CACHE_READ_TOKENS: usage.cache_read_tokens,
        names.GEN_AI_CACHE_WRITE_TOKENS: usage.cache_write_tokens,
    }


def _present(attributes: dict[str, Value | None]) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}
