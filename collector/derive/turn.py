"""One turn out of the spans of one trace. Pure.

Knows the columns of spans and of turns, not where they are stored. Says only what spans can say: what a person saw, which source an answer rests on and whether a
tool returned evidence stand in no span, and are null.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from collector.receive.aliases import MODEL_CALLS, RETRIEVAL, TOOL
from collector.receive.attributes import as_json
from collector.store.batches import Row
from lastword.events import CompletionStatus, Reason

NS_PER_MS = 1_000_000

_WHOLE = frozenset({"stop", "end_turn", "stop_sequence", "eos", "complete", "completed", "end"})
_CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded", "model_length"})
_REFUSED = frozenset({"content_filter", "content-filter", "refusal", "safety", "guardrail_intervened"})


class SpanFacts(Struct, frozen=True, kw_only=True):
    """A span as far as a turn is made of it. The names are those of its columns."""

    span_id: str
    parent_span_id: str | None = None
    remote_parent: bool | None = None
    turn_id: str | None = None
    name: str
    status: str
    status_message: str | None = None
    start_ns: int
    duration_ns: int
    service_name: str | None = None
    operation: str | None = None
    model: str | None = None
    conversation_id: str | None = None
    tool_name: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    finish_reason: str | None = None
    first_token_ms: int | None = None

    @property
    def end_ns(self) -> int:
        """When it ended."""
        return self.start_ns + self.duration_ns


def is_root(span: SpanFacts | Row) -> bool:
    """Whether a span begins a trace, or its service's part of a trace that began elsewhere."""
    if isinstance(span, dict):
        return span["parent_span_id"] is None or bool(span.get("remote_parent"))
    return span.parent_span_id is None or bool(span.remote_parent)


def turn_of(trace_id: str, spans: Iterable[SpanFacts]) -> Row | None:
    """The row of a trace's turn; none where no model or tool was called in it, where it has no root, or where it is the trace of a turn with a record."""
    known = sorted(spans, key=lambda span: (span.start_ns, span.span_id))
    roots = sorted((span for span in known if is_root(span)), key=lambda span: span.parent_span_id is not None)
    if not roots or not any(span.operation for span in known) or any(span.turn_id for span in known):
        return None
    root = roots[0]
    calls = _innermost(known, MODEL_CALLS)
    tools = [span.tool_name or span.name for span in _innermost(known, frozenset({TOOL}))]
    last = max(calls, key=lambda call: call.end_ns, default=root)
    status, reason = _outcome(root, last if calls else None)
    return {
        "turn_id": trace_id,
        "trace_id": trace_id,
        "span_id": root.span_id,
        "conversation_id": root.conversation_id or _first(span.conversation_id for span in known),
        "started_ns": root.start_ns,
        "ended_ns": root.end_ns,
        "terminal": "error" if root.status == "ERROR" else "done",
        "origin": "spans",
        "model": last.model or _first(call.model for call in reversed(calls)) or _first(span.model for span in known),
        "completion_status": status,
        "partial": status is CompletionStatus.TRUNCATED,
        "reason": reason,
        "finish_reason": last.finish_reason,
        "error_message": root.status_message if root.status == "ERROR" else None,
        **{
            column: _sum(getattr(span, column) for span in (calls or [root]))
            for column in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
        },
        "tools_used": as_json(list(dict.fromkeys(tools))),
        "tool_calls_count": len(tools),
        **_times(root, calls, known),
        "total_ms": root.duration_ns // NS_PER_MS,
        "service_name": root.service_name,
    }


def _innermost(spans: list[SpanFacts], operations: frozenset[str]) -> list[SpanFacts]:
    """Spans of these operations without those that wrap another one of them: two instruments on one call are one call."""
    chosen = {span.span_id: span for span in spans if span.operation in operations}
    parents = {span.span_id: span.parent_span_id for span in spans}
    wrapping: set[str] = set()
    for span_id in chosen:
        above = parents[span_id]
        for _ in range(len(spans)):  # a ring of parents ends here too
            if above is None or above in wrapping:
                break
            if above in chosen and above != span_id:
                wrapping.add(above)
            above = parents.get(above)
    return [span for span_id, span in chosen.items() if span_id not in wrapping]


def _outcome(root: SpanFacts, last: SpanFacts | None) -> tuple[str | None, str | None]:
    """Completion status and reason, as far as the last call's finish reason tells; unknown words tell nothing."""
    if root.status == "ERROR" or last is None or last.status == "ERROR":
        return None, None
    word = (last.finish_reason or "").lower()
    if word in _WHOLE:
        return CompletionStatus.SUCCESS, None
    if word in _CUT:
        return CompletionStatus.TRUNCATED, Reason.OUTPUT_LIMIT
    if word in _REFUSED:
        return CompletionStatus.REFUSED, Reason.REFUSAL
    return None, None


def _times(root: SpanFacts, calls: list[SpanFacts], spans: list[SpanFacts]) -> dict[str, int | None]:
    """The stages that spans show. They are disjoint: retrieval counts up to the first call, which is where waiting for the model begins."""
    first = min((call.start_ns for call in calls), default=None)
    tokens = [call.start_ns + call.first_token_ms * NS_PER_MS for call in calls if call.first_token_ms is not None]
    if not tokens and root.first_token_ms is not None:
        tokens = [root.start_ns + root.first_token_ms * NS_PER_MS]
    token = min(tokens, default=None)
    end = max((call.end_ns for call in calls), default=None)
    until = root.end_ns if first is None else first
    retrieved = _covered(
        [(max(span.start_ns, root.start_ns), min(span.end_ns, until)) for span in spans if span.operation == RETRIEVAL]
    )
    return {
        "retrieval_ms": retrieved // NS_PER_MS if retrieved else None,
        "model_wait_ms": None if first is None or token is None else max(0, token - first) // NS_PER_MS,
        "stream_ms": None if end is None or token is None else max(0, end - token) // NS_PER_MS,
        "first_token_ms": None if token is None else max(0, token - root.start_ns) // NS_PER_MS,
    }


def _covered(intervals: list[tuple[int, int]]) -> int:
    """How much time lies in at least one of the intervals."""
    total, upto = 0, 0
    for start, end in sorted(intervals):
        total += max(0, end - max(start, upto))
        upto = max(upto, end)
    return total


def _first(values: Iterable[str | None]) -> str | None:
    return next((value for value in values if value), None)


def _sum(values: Iterable[int | None]) -> int | None:
    """The sum of what is known; none where nothing is."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
