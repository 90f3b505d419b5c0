"""Turn: what happened in this one?

The span tree, the moments in order, the record and whether it agrees with the trace, what was tried, and what the answer rests on. Opened without an id it
is a search.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import streamlit as st

from dashboard import data, filters, markup, nav, panels, queries, text, url, verbatim
from dashboard.charts.waterfall import waterfall
from dashboard.components import show
from dashboard.palette import palette
from dashboard.panels import Empty
from dashboard.settings import settings
from dashboard.trace import AGREEMENT_MS, Comparison, Trace, agreement, read_trace, timeline
from dashboard.views import finding

Row = Mapping[str, Any]

_ID = "id"
_CARD_PX = 150
_JSON_PX = 420


def page() -> None:
    """Draws the page."""
    turn_id = url.get(_ID).strip()
    if not turn_id:
        finding.search()
        return
    found: list[Row] = []
    asked = panels.guarded("turn", lambda: found.extend(_stored(turn_id)), height_px=400)
    if found:
        _turn(found[0])
    elif asked:
        panels.guarded("turn-missing", lambda: finding.missing(turn_id))


def _stored(turn_id: str) -> list[Row]:
    """The turn's row, or none: looked for by its id first, then read in its own time."""
    return [
        row
        for when in data.fetch("turn_when", {"turn_id": turn_id}).rows
        for row in data.fetch("turn", {"turn_id": turn_id, "ended_at": when["ended_at"].isoformat()}).rows
    ]


def _turn(turn: Row) -> None:
    _head(turn)
    _figures(turn)
    panels.panel("spans", "Span tree", lambda: _spans(turn), height_px=420)
    left, right = st.columns(2, gap="large")
    with left:
        panels.panel("timeline", "Timeline", lambda: _timeline(turn), height_px=260)
        panels.panel("attempts", "Attempts", lambda: _attempts(turn), height_px=120)
        panels.panel("tool-calls", "Tool calls", lambda: _tool_calls(turn), height_px=120)
    with right:
        panels.panel("agreement", "Does the record agree with the trace?", lambda: _agreement(turn), height_px=420)
    panels.panel("sources", "Sources", lambda: _sources(turn), height_px=160)
    left, right = st.columns(2, gap="large")
    with left:
        panels.panel("record", "Terminal record", lambda: _record(turn), height_px=_JSON_PX)
    with right:
        panels.panel("neighbours", "In the same conversation", lambda: _neighbours(turn), height_px=110)
        panels.panel("sql", "Ask the database", lambda: _sql(turn), height_px=220)


# --- head


def _head(turn: Row) -> None:
    finding.ways_out()
    badges = [markup.status_badge(turn["completion_status"] or turn["terminal"])]
    if turn["partial"]:
        badges.append(markup.badge("partial", "partial"))
    if turn["reason"]:
        badges.append(markup.badge(turn["reason"], "error" if turn["broken"] else "left"))
    if turn["recovered"]:
        badges.append(markup.badge("closed by recovery", "lost"))
    badges += [markup.tag(word) for word in (turn["route"], turn["model_tier"], turn["model"]) if word]
    show(markup.turn_head(turn["turn_id"], badges), key="head")
    began = text.moment(turn["started_at"], filters.zone()) if turn["started_at"] else "at an unknown time"
    parts = [f"Accepted {began}"]
    if turn["service_name"]:
        parts.append(f"{turn['service_name']} {turn['service_version'] or ''}".strip())
    if turn["trace_id"]:
        parts.append(f"trace {turn['trace_id']}")
    if turn["origin"] == "spans":
        parts.append("told by spans alone, without a record")
    st.caption(" · ".join(parts))


def _figures(turn: Row) -> None:
    tokens = f"{text.count(turn['input_tokens'])} in, {text.count(turn['output_tokens'])} out" if turn["input_tokens"] else ""
    used, useful = turn["tool_calls_count"], turn["tools_with_results_count"]
    figures = (
        ("Total", text.duration(turn["total_ms"]), "From acceptance to the terminal."),
        (
            "First visible token",
            text.duration(turn["first_token_ms"]),
            "From acceptance; no text was shown where there is none.",
        ),
        ("Attempts", text.count(turn["attempts"]), f"Tries at the model. Tokens: {tokens or 'not reported'}."),
        (
            "Sources",
            text.count(turn["sources_count"] if turn["terminal"] == "done" else None),
            "Distinct addresses that the answer rests on.",
        ),
        (
            "Tools with results",
            text.count(useful) if used else text.NONE,
            f"Tools that returned usable evidence, of {text.plural(used or 0, 'call')}.",
        ),
    )
    with st.grid(5, min_column_width=_CARD_PX, gap="small"):
        for label, value, meaning in figures:
            st.metric(label, value, border=True, help=meaning)


# --- the trace


def _trace(turn: Row) -> Trace:
    """The turn's spans.

    Raises:
        Empty: none was received, which is no fault of the turn.
    """
    result = data.fetch("turn_spans", {**_of_turn(turn), "limit": settings().max_spans})
    if not result.rows:
        raise Empty(
            "**No span of this turn was received.** Spans are best effort and may be sampled or lost; the record below is whole, "
            "because records are sent until they are stored."
        )
    return read_trace(result.rows)


def _spans(turn: Row) -> None:
    trace = _trace(turn)
    drawn = waterfall(trace, palette(st.context.theme.type))
    if not trace.has_root:
        st.caption("The root span is not here: it is sent when the turn ends, or was lost. Times count from the first span.")
    panels.chart(drawn, "spans", narrow=markup.span_table(trace.rows))
    if len(trace.rows) >= settings().max_spans:
        st.caption(f"Cut at {text.plural(settings().max_spans, 'span')}; the query below shows all.")


def _timeline(turn: Row) -> None:
    moments = timeline(_trace(turn), turn)
    show(markup.timeline((_plus(moment.at_ms), moment.what, moment.detail, moment.tone) for moment in moments), key="moments")


def _plus(ms: float) -> str:
    return "0" if ms < 0.5 else f"+{text.duration(ms)}"


def _agreement(turn: Row) -> None:
    rows = agreement(turn, _trace(turn))
    compared = [row for row in rows if row.agrees is not None]
    off = [row.what for row in compared if not row.agrees]
    if not compared:
        raise Empty("Nothing can be compared: the record or the root span is missing.")
    if off:
        st.markdown(f":orange-badge[◐ no] {text.plural(len(off), 'value')} of {len(compared)} differ: {', '.join(off)}.")
    else:
        st.markdown(f":green-badge[✓ yes] All {len(compared)} values agree; times within {AGREEMENT_MS} ms.")
    show(markup.agreement([_said(row) for row in rows]), key="compared")


def _said(row: Comparison) -> tuple[str, str, str, str, str, str]:
    verdict, tone = {True: ("agrees", "good"), False: ("differs", "error"), None: ("only one side", "left")}[row.agrees]
    gap = row.difference
    return (
        row.what,
        _value(row.record),
        _value(row.trace),
        text.NONE if gap is None else f"{gap:+d} ms" if gap else "0 ms",
        verdict,
        tone,
    )


def _value(value: str | int | None) -> str:
    return text.NONE if value is None else f"{value:,} ms" if isinstance(value, int) else value


# --- what was tried, what came of it


def _of_turn(turn: Row) -> dict[str, str | int | None]:
    return {
        "turn_id": turn["turn_id"],
        "started_at": turn["started_at"].isoformat() if turn["started_at"] else None,
        "ended_at": turn["ended_at"].isoformat(),
    }


def _ended(turn: Row) -> Row:
    """What the turn's terminal says beyond its columns; nothing where there is no terminal."""
    rows = data.fetch("turn_record", _of_turn(turn)).rows
    return rows[0] if rows else {}


def _listed(turn: Row, column: str) -> list[Row]:
    """The attempts, tool calls or sources that the terminal names. What is no such thing in somebody else's record is null, and left out."""
    return [each for each in _ended(turn).get(column) or () if each is not None]


def _attempts(turn: Row) -> None:
    tries = _listed(turn, "attempt_details")
    if not tries:
        raise Empty("The turn ended before the model was asked.")
    show(markup.table([_attempt(each) for each in tries]), key="attempt-table")


def _attempt(tried: Row) -> Row:
    usage = tried["usage"] or {}
    return {
        "#": text.count(tried["n"]),
        "Model": tried["model"] or text.NONE,
        "Tier": tried["modelTier"] or text.NONE,
        "Outcome": tried["outcome"] or text.NONE,
        "Showed text": "yes" if tried["visible"] else "no",
        "Tokens in": text.count(usage.get("inputTokens")),
        "Tokens out": text.count(usage.get("outputTokens"))
        + (" (at least)" if usage.get("outputTokens") is not None and not usage.get("complete") else ""),
        "Took": text.duration(tried["durationMs"]),
    }


def _tool_calls(turn: Row) -> None:
    calls = _listed(turn, "tool_calls")
    if not calls:
        raise Empty("No tool was called.")
    tones = {"results": "good", "empty": "left", "error": "error", "timeout": "partial"}
    rows = [
        (
            str(number),
            call["name"] or text.NONE,
            call["outcome"] or text.NONE,
            tones.get(call["outcome"], "error"),
            text.duration(call["durationMs"]),
        )
        for number, call in enumerate(calls, 1)
    ]
    show(markup.tool_table(rows), key="tool-table")


def _sources(turn: Row) -> None:
    sources = _listed(turn, "source_details")
    if not sources:
        raise Empty(
            "The answer rests on no source." if turn["terminal"] == "done" else "There is no answer, so there are no sources."
        )
    most = settings().max_sources
    show(markup.source_cards(sources[:most]), key="source-cards")
    if len(sources) > most:
        st.caption(f"The first {most:,} of {len(sources):,}; the record holds all.")


def _record(turn: Row) -> None:
    stored = _ended(turn).get("record")
    if not stored:
        raise Empty(
            "There is no record: the turn never ended."
            if turn["terminal"] == "abandoned"
            else "There is no record: this turn is known by its spans alone."
        )
    name = f"{turn['terminal']}.json"
    body, file, mime = _indented(stored), f"{turn['turn_id']}.{name}", "application/json"
    small = len(body) <= verbatim.MAX_SAVED_BYTES
    if not small:
        st.download_button(f"Save {name}", body, file_name=file, mime=mime, on_click="ignore")
    save = verbatim.saved(f"Save {name}", file, body, mime) if small else ""
    show(save + verbatim.json_text(stored), key="record-tree")
    if turn["terminal"] == "done":
        st.caption(
            f"The answer's text ({text.plural(turn['answer_chars'] or 0, 'character')}) is not in the record: it is stored apart, and only "
            "where content capture is on."
        )


def _indented(stored: str) -> bytes:
    """The record as people read it, or as it came where it is nested too deeply for that."""
    try:
        return msgspec.json.format(stored.encode(), indent=2)
    except RecursionError:
        return stored.encode()


def _neighbours(turn: Row) -> None:
    if not turn["conversation_id"]:
        raise Empty("The turn names no conversation.")
    began = turn["started_at"] or turn["ended_at"]
    asked = {
        "conversation_id": turn["conversation_id"],
        "started_at": began.isoformat(),
        "turn_id": turn["turn_id"],
    }
    sides = {row["side"]: row for row in data.fetch("turn_neighbours", asked).rows}
    if not sides:
        raise Empty(f"The only turn of conversation `{text.short_id(turn['conversation_id'])}`.")
    for side, icon in (("before", ":material/arrow_upward:"), ("after", ":material/arrow_downward:")):
        row = sides.get(side)
        if row is None:
            st.caption("This is the first turn." if side == "before" else "This is the latest turn.")
            continue
        apart = abs((row["started_at"] - began).total_seconds())
        st.page_link(
            nav.page(nav.TURN),
            label=f"{text.short_id(row['turn_id'])} · {row['status']} · {text.duration(apart * 1000)} {side}",
            icon=icon,
            query_params={_ID: row["turn_id"], **filters.kept()},
        )


def _sql(turn: Row) -> None:
    asked = {"turn_id": turn["turn_id"]}
    spans = queries.for_reading("show_spans", asked)
    show(verbatim.code(f"{queries.for_reading('show_turn', asked)}\n\n{spans}"), key="sql-of-turn")
    st.page_link(
        nav.page(nav.SQL),
        label="Ask for the spans on the SQL page",
        icon=":material/database:",
        query_params={"sql": spans, **filters.kept()},
    )
    if turn["origin"] == "record":
        replay = f"curl -N {settings().service_url.rstrip('/')}/v1/turns/{turn['turn_id']}/events"
        show(verbatim.code(replay), key="replay")
        st.caption("Replays what the client was sent, for as long as the service keeps the turn's log.")
