"""A turn's spans as rows of a waterfall, its moments as a timeline, and the check of its record against its trace.

Pure: from rows of queries to rows for pages. Times are milliseconds since the turn was accepted, which is the root span's start.
Invariant: every span that was received has exactly one row, also where its parent is missing or the parents form a loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from dashboard.stages import STAGES
from lastword import names
from lastword.states import Stage

Tone = Literal["", "error", "partial"]
Row = Mapping[str, Any]
_NS_PER_MS = 1_000_000

_PREFIX = "turn."
_PHASES = {
    names.SPAN_TURN: "turn",
    names.SPAN_AUTH: "prepare",
    names.SPAN_PRECHECK: "prepare",
    names.SPAN_CONTEXT: "prepare",
    names.SPAN_ROUTE: "prepare",
    names.SPAN_AGENT_SETUP: "prepare",
    names.SPAN_ATTEMPT: "model",
    names.SPAN_STREAM: "stream",
    names.SPAN_POST_PROCESS: "finish",
    names.SPAN_FINALIZE: "finish",
    names.SPAN_DELIVER: "viewer",
}
_PHASES_BY_FIRST_WORD = {names.SPAN_RETRIEVAL: "retrieval", names.SPAN_CHAT: "model", names.SPAN_EXECUTE_TOOL: "tool"}
_DECISIONS = {
    names.EVENT_RETRY: "retried",
    names.EVENT_DEGRADE: "cheaper tier",
    names.EVENT_FALLBACK: "fell back to the safe answer",
}


class SpanRow(Struct, frozen=True, kw_only=True):
    """One span in its place. `note` is why it ended as it did, in a few words."""

    name: str
    label: str
    depth: int
    start_ms: float
    duration_ms: float
    phase: str
    tone: Tone
    note: str
    status: str
    attributes: dict[str, Any]
    events: list[dict[str, Any]]
    orphan: bool = False

    @property
    def end_ms(self) -> float:
        """When it ended."""
        return self.start_ms + self.duration_ms


class Trace(Struct, frozen=True, kw_only=True):
    """The received spans of one turn, depth first."""

    rows: list[SpanRow]
    has_root: bool
    first_visible_ms: float | None

    @property
    def total_ms(self) -> float:
        """The end of the root, or of the last span where there is no root. A viewer may outlast the turn."""
        return self.rows[0].end_ms if self.has_root else max((row.end_ms for row in self.rows), default=0.0)


class Moment(Struct, frozen=True, kw_only=True):
    """Something that happened at one time."""

    at_ms: float
    what: str
    detail: str = ""
    tone: Tone = ""


class Comparison(Struct, frozen=True, kw_only=True):
    """One value as the record says it and as the trace shows it. `agrees` is none where one of them is missing."""

    what: str
    record: str | int | None
    trace: str | int | None
    agrees: bool | None

    @property
    def difference(self) -> int | None:
        """Trace less record, in milliseconds."""
        if isinstance(self.record, int) and isinstance(self.trace, int):
            return self.trace - self.record
        return None


_LAST = "last content"
AGREEMENT_MS = 5
"""Timings further apart than this are a violation of the contract (telemetry: what the collector checks)."""


def read_trace(spans: Sequence[Row]) -> Trace:
    """The waterfall of rows of `turn_spans.sql`."""
    known = {span["span_id"] for span in spans}
    children: dict[str | None, list[Row]] = {}
    for span in spans:
        parent = span["parent_span_id"]
        children.setdefault(parent if parent in known else None, []).append(span)
    tops = children.get(None, [])
    root = next((span for span in tops if span["name"] == names.SPAN_TURN), None)
    ordered = [root, *(span for span in tops if span is not root)] if root else tops
    zero_ns = root["start_ns"] if root else min((span["start_ns"] for span in spans), default=0)
    decided = _decisions(root)
    rows: list[SpanRow] = []
    seen: set[str] = set()
    # A stack, not recursion: the depth of a foreign trace is not ours to trust.
    stack = [(span, 0 if span is root or root is None else 1) for span in reversed(ordered)]
    while stack:
        span, depth = stack.pop()
        if span["span_id"] in seen:
            continue
        seen.add(span["span_id"])
        rows.append(_row(span, depth, zero_ns, decided, orphan=root is not None and depth == 1 and span in tops))
        below = sorted(children.get(span["span_id"], []), key=_place, reverse=True)
        stack += [(child, depth + 1) for child in below]
    # Parents that point at each other are reached from nowhere: they are shown all the same.
    rows += [_row(span, 1, zero_ns, decided, orphan=True) for span in spans if span["span_id"] not in seen]
    first = None if root is None else _event_ms(root, names.EVENT_FIRST_CHUNK, zero_ns)
    return Trace(rows=rows, has_root=root is not None, first_visible_ms=first)


def timeline(trace: Trace, turn: Row) -> list[Moment]:
    """The moments of a turn in order: accepted, decisions, first and last visible text, tools, viewers, the terminal."""
    moments = [Moment(at_ms=0, what="accepted")]
    for row in trace.rows:
        moments += _moments_of_span(row)
    # After the spans: of moments at one time, an attempt ends first and is decided upon then.
    for row in trace.rows:
        for event in row.events:
            moments += _moment_of_event(event, row)
    if turn["total_ms"] is not None:
        ended = turn["completion_status"] or turn["terminal"]
        reason = turn["reason"] or ""
        tone: Tone = "error" if turn["terminal"] != "done" else "partial" if turn["partial"] else ""
        moments.append(Moment(at_ms=turn["total_ms"], what=f"{turn['terminal']}: {ended}", detail=reason, tone=tone))
    return sorted(moments, key=lambda moment: (moment.at_ms, moment.what == _LAST))


def agreement(turn: Row, trace: Trace) -> list[Comparison]:
    """The record's stages and marks beside those of the trace, then the status."""
    rows = [_compare_ms(label, turn[column], _trace_ms(trace, stage)) for stage, column, label in STAGES]
    rows.append(_compare_ms("firstToken", turn["first_token_ms"], _floor(trace.first_visible_ms)))
    rows.append(_compare_ms("total", turn["total_ms"], _floor(trace.rows[0].end_ms) if trace.has_root else None))
    root = trace.rows[0].attributes if trace.has_root else {}
    for label, column, attribute in (
        ("completionStatus", "completion_status", names.TURN_COMPLETION_STATUS),
        ("partial", "partial", names.TURN_PARTIAL),
        ("reason", "reason", names.TURN_REASON),
    ):
        rows.append(_compare_words(label, _word(turn[column]), _word(root.get(attribute)), known=trace.has_root))
    return [row for row in rows if row.record is not None or row.trace is not None]


_SPAN_OF_STAGE = {
    Stage.AUTH: names.SPAN_AUTH,
    Stage.PRECHECK: names.SPAN_PRECHECK,
    Stage.CONTEXT: names.SPAN_CONTEXT,
    Stage.ROUTE: names.SPAN_ROUTE,
    Stage.RETRIEVAL: names.SPAN_RETRIEVAL,
    Stage.AGENT_SETUP: names.SPAN_AGENT_SETUP,
    Stage.STREAM: names.SPAN_STREAM,
    Stage.POST_PROCESS: names.SPAN_POST_PROCESS,
    Stage.FINALIZE: names.SPAN_FINALIZE,
}


def _trace_ms(trace: Trace, stage: Stage) -> int | None:
    """A stage's milliseconds as the spans show them, floored as the record's are."""
    if stage is Stage.MODEL_WAIT:
        attempts = [row for row in trace.rows if row.name == names.SPAN_ATTEMPT]
        if not attempts:
            return None
        shown = next((row.start_ms for row in trace.rows if row.name == names.SPAN_STREAM), None)
        until = shown if shown is not None else max(row.end_ms for row in attempts)
        return _floor(until - min(row.start_ms for row in attempts))
    wanted = _SPAN_OF_STAGE[stage]
    found = [row for row in trace.rows if row.depth == 1 and (row.name == wanted or row.name.startswith(f"{wanted} "))]
    return _floor(sum(row.duration_ms for row in found)) if found else None


def _compare_ms(what: str, record: int | None, trace: int | None) -> Comparison:
    agrees = None if record is None or trace is None else abs(record - trace) <= AGREEMENT_MS
    return Comparison(what=what, record=record, trace=trace, agrees=agrees)


def _compare_words(what: str, record: str | None, trace: str | None, *, known: bool) -> Comparison:
    return Comparison(what=what, record=record, trace=trace, agrees=record == trace if known else None)


def _word(value: object) -> str | None:
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _floor(ms: float | None) -> int | None:
    # A start and a duration in nanoseconds were divided to get here: a hair below the whole millisecond is that millisecond.
    return None if ms is None else int(ms + 1e-6)


def _place(span: Row) -> tuple[bool, int]:
    """By start; viewers, which only watch, stand below the machine's own spans."""
    return span["name"] == names.SPAN_DELIVER, span["start_ns"]


def _decode(raw: str | None, empty: Any) -> Any:
    return msgspec.json.decode(raw) if raw else empty


def _row(span: Row, depth: int, zero_ns: int, decided: Mapping[int, str], *, orphan: bool) -> SpanRow:
    attributes = _decode(span["attributes"], {})
    events = [
        {**event, "at_ms": (event.get("timeNs", span["start_ns"]) - zero_ns) / _NS_PER_MS}
        for event in _decode(span["events"], [])
    ]
    tone, note = _outcome(span, attributes, decided)
    return SpanRow(
        name=span["name"],
        label=_label(span["name"], attributes),
        depth=depth,
        start_ms=(span["start_ns"] - zero_ns) / _NS_PER_MS,
        duration_ms=span["duration_ns"] / _NS_PER_MS,
        phase=_PHASES.get(span["name"]) or _PHASES_BY_FIRST_WORD.get(span["name"].split(" ", 1)[0], "turn"),
        tone=tone,
        note="parent not received" if orphan and not note else note,
        status=span["status"],
        attributes=attributes,
        events=events,
        orphan=orphan,
    )


def _label(name: str, attributes: Mapping[str, Any]) -> str:
    if name == names.SPAN_ATTEMPT and names.ATTEMPT_NUMBER in attributes:
        return f"attempt {attributes[names.ATTEMPT_NUMBER]}"
    return name.removeprefix(_PREFIX)


def _outcome(span: Row, attributes: Mapping[str, Any], decided: Mapping[int, str]) -> tuple[Tone, str]:
    """How a span's bar is outlined, and what stands at its end."""
    failed = span["status"] == "ERROR"
    why = str(attributes.get(names.ERROR_TYPE) or span["status_message"] or "error")
    match span["name"]:
        case names.SPAN_TURN:
            reason = str(attributes.get(names.TURN_REASON) or "")
            if attributes.get(names.TURN_PARTIAL) is True:
                return "partial", f"partial: {reason}" if reason else "partial"
            return ("error", reason or why) if failed else ("", reason)
        case names.SPAN_ATTEMPT:
            outcome = str(attributes.get(names.ATTEMPT_OUTCOME) or ("ok" if not failed else why))
            if outcome == "ok" and not failed:
                return "", ""
            if attributes.get(names.TURN_VISIBLE) is True:
                return "partial", f"{outcome} after first token: kept partial"
            decision = decided.get(int(attributes.get(names.ATTEMPT_NUMBER) or 0))
            return "error", f"{outcome} before first token" + (f": {decision}" if decision else "")
        case names.SPAN_STREAM:
            return ("partial", "cut") if failed else ("", "")
        case names.SPAN_DELIVER:
            left = attributes.get(names.VIEWER_DISCONNECTED) is True
            return "", f"viewer left at seq {attributes.get(names.VIEWER_DELIVERED_SEQ, '?')}" if left else ""
    if failed:
        return "error", why
    tool = str(attributes.get(names.TOOL_OUTCOME) or "")
    return "", tool if tool and tool != "results" else ""


def _decisions(root: Row | None) -> dict[int, str]:
    """What was decided after each attempt, by its number, from the root's events."""
    events = _decode(root["events"], []) if root else []
    return {
        int(event.get("attributes", {}).get(names.ATTEMPT_NUMBER, 0)): _DECISIONS[event["name"]]
        for event in events
        if event["name"] in _DECISIONS
    }


def _event_ms(span: Row, name: str, zero_ns: int) -> float | None:
    return next(
        ((event["timeNs"] - zero_ns) / _NS_PER_MS for event in _decode(span["events"], []) if event["name"] == name), None
    )


def _moment_of_event(event: Mapping[str, Any], row: SpanRow) -> list[Moment]:
    attributes = event.get("attributes", {})
    number = attributes.get(names.ATTEMPT_NUMBER)
    cause = str(attributes.get(names.ERROR_TYPE) or "")
    of = f"after attempt {number}" if number else ""
    said = ", ".join(part for part in (of, cause) if part)
    match event["name"]:
        case names.EVENT_FIRST_CHUNK:
            what = "first visible token" if row.name == names.SPAN_TURN else ""
            return [Moment(at_ms=event["at_ms"], what=what, detail="no retry after this")] if what else []
        case names.EVENT_RETRY:
            return [Moment(at_ms=event["at_ms"], what="retry", detail=said, tone="error")]
        case names.EVENT_DEGRADE:
            return [Moment(at_ms=event["at_ms"], what="degrade to a cheaper tier", detail=said, tone="error")]
        case names.EVENT_FALLBACK:
            return [Moment(at_ms=event["at_ms"], what="safe answer", detail=said, tone="error")]
        case _:
            return [Moment(at_ms=event["at_ms"], what=str(event["name"]), detail=row.label)]


def _moments_of_span(row: SpanRow) -> list[Moment]:
    first_word = row.name.split(" ", 1)[0]
    if row.name == names.SPAN_ATTEMPT:
        ended = [Moment(at_ms=row.end_ms, what=f"{row.label} ended", detail=row.note, tone=row.tone)] if row.tone else []
        return [Moment(at_ms=row.start_ms, what=f"{row.label} begins"), *ended]
    if row.name == names.SPAN_STREAM:
        return [Moment(at_ms=row.end_ms, what=_LAST, tone=row.tone)]
    if first_word == names.SPAN_EXECUTE_TOOL:
        outcome = str(row.attributes.get(names.TOOL_OUTCOME) or row.note or "returned")
        return [Moment(at_ms=row.end_ms, what=f"tool {row.name.partition(' ')[2]}", detail=outcome, tone=row.tone)]
    if first_word == names.SPAN_RETRIEVAL:
        hits = row.attributes.get(names.RETRIEVAL_HITS)
        return [Moment(at_ms=row.end_ms, what="retrieval", detail="" if hits is None else f"{hits} hits", tone=row.tone)]
    if row.name == names.SPAN_DELIVER:
        resumed = row.attributes.get(names.VIEWER_RESUMED_FROM) or None  # 0: from the start
        begins = "viewer connected" if resumed is None else "viewer resumed"
        detail = "" if resumed is None else f"from seq {resumed}"
        left = row.attributes.get(names.VIEWER_DISCONNECTED) is True
        gone = [Moment(at_ms=row.end_ms, what="viewer left", detail=row.note.removeprefix("viewer left "))] if left else []
        return [Moment(at_ms=row.start_ms, what=begins, detail=detail), *gone]
    return []
