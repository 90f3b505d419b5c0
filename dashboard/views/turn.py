"""Turn: what happened in this one?

The span tree, the moments in order, the record and whether it agrees with the trace, what was tried, and what the answer rests on. Opened without an id it
is a search.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import streamlit as st

from dashboard import data, filters, markup, nav, panels, queries, text, url
from dashboard.charts.waterfall import waterfall
from dashboard.components import linked_html, show
from dashboard.palette import palette
from dashboard.panels import DEMO, Empty
from dashboard.settings import settings
from dashboard.trace import AGREEMENT_MS, Comparison, Trace, agreement, read_trace, timeline

Row = Mapping[str, Any]

_ID = "id"
_NEEDLE = "q"
_LEAST_NEEDLE = 4
_CARD_PX = 150
_JSON_PX = 420


def page() -> None:
    """Draws the page."""
    turn_id = url.get(_ID).strip()
    if not turn_id:
        _search()
        return
    found: list[Row] = []
    asked = panels.guarded("turn", lambda: found.extend(_stored(turn_id)), height_px=400)
    if found:
        _turn(found[0])
    elif asked:
        panels.guarded("turn-missing", lambda: _missing(turn_id))


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


def _ways_out() -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="turn-nav"):
        st.page_link(nav.page(nav.OVERVIEW), label="Overview", icon=":material/arrow_back:", query_params=filters.kept())
        st.page_link(nav.page(nav.TURN), label="Find another turn", icon=":material/search:", query_params=filters.kept())


def _head(turn: Row) -> None:
    _ways_out()
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
        "limit": settings().max_sources,
    }


def _attempts(turn: Row) -> None:
    rows = data.fetch("turn_attempts", _of_turn(turn)).rows
    if not rows:
        raise Empty("The turn ended before the model was asked.")
    show(
        markup.table(
            [
                {
                    "#": row["n"],
                    "Model": row["model"],
                    "Tier": row["model_tier"],
                    "Outcome": row["outcome"],
                    "Showed text": "yes" if row["visible"] else "no",
                    "Tokens in": text.count(row["input_tokens"]),
                    "Tokens out": text.count(row["output_tokens"]) + ("" if row["usage_complete"] else " (at least)"),
                    "Took": text.duration(row["duration_ms"]),
                }
                for row in rows
            ]
        ),
        key="attempt-table",
    )


def _tool_calls(turn: Row) -> None:
    rows = data.fetch("turn_tools", _of_turn(turn)).rows
    if not rows:
        raise Empty("No tool was called.")
    tones = {"results": "good", "empty": "left", "error": "error", "timeout": "partial"}
    calls = [
        (str(row["n"]), row["name"], row["outcome"], tones.get(row["outcome"], "error"), text.duration(row["duration_ms"]))
        for row in rows
    ]
    show(markup.tool_table(calls), key="tool-table")


def _sources(turn: Row) -> None:
    rows = data.fetch("turn_sources", _of_turn(turn)).rows
    if not rows:
        raise Empty(
            "The answer rests on no source." if turn["terminal"] == "done" else "There is no answer, so there are no sources."
        )
    show(markup.source_cards(rows), key="source-cards")


def _record(turn: Row) -> None:
    (text_of, *_) = [row["record"] for row in data.fetch("turn_record", _of_turn(turn)).rows] or [None]
    if not text_of:
        raise Empty(
            "There is no record: the turn never ended."
            if turn["terminal"] == "abandoned"
            else "There is no record: this turn is known by its spans alone."
        )
    record = msgspec.json.decode(text_of)
    pretty = msgspec.json.format(text_of.encode(), indent=2)
    name = f"{turn['turn_id']}.{turn['terminal']}.json"
    st.download_button(
        f"{turn['terminal']}.json",
        pretty,
        file_name=name,
        mime="application/json",
        icon=":material/download:",
        on_click="ignore",
    )
    with st.container(border=True):
        st.json(record, expanded=1)
    if turn["terminal"] == "done":
        st.caption(
            f"The answer's text ({text.plural(turn['answer_chars'] or 0, 'character')}) is not in the record: it is stored apart, and only "
            "where content capture is on."
        )


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
    st.code(f"{queries.for_reading('show_turn', asked)}\n\n{spans}", language="sql", wrap_lines=True)
    st.page_link(
        nav.page(nav.SQL),
        label="Ask for the spans on the SQL page",
        icon=":material/database:",
        query_params={"sql": spans, **filters.kept()},
    )
    if turn["origin"] == "record":
        st.code(
            f"curl -N {settings().service_url.rstrip('/')}/v1/turns/{turn['turn_id']}/events", language="bash", wrap_lines=True
        )
        st.caption("Replays what the client was sent, for as long as the service keeps the turn's log.")


# --- without a turn


def _missing(turn_id: str) -> None:
    """A turn that has no row: it may still run, or never was."""
    rows = data.fetch("turn_open", {"turn_id": turn_id}).rows
    _ways_out()
    if rows:
        row = rows[0]
        st.markdown(f"# {turn_id}", anchors=False)
        st.markdown(
            f":blue-badge[… running] Accepted {text.ago(row['started_at'], filters.now())}; it has "
            f"{text.duration(row['deadline_ms'])} until its deadline. Its record comes when it ends."
        )
        _reload()
        return
    raise Empty(
        f"**No turn `{turn_id}` is stored.** It may have been removed by retention, or its record is still on its way.", DEMO
    )


@st.fragment
def _reload() -> None:
    if st.button("Look again", icon=":material/refresh:"):
        data.forget()
        st.rerun()


def _search() -> None:
    st.markdown("# Find a turn", anchors=False)
    st.text_input(
        "Turn, trace or conversation id",
        key=url.seed(_NEEDLE, url.get(_NEEDLE)),
        on_change=url.chosen,
        args=(_NEEDLE, ""),
        placeholder="trn_… or the beginning of a turn or trace id",
        icon=":material/search:",
        max_chars=200,
        width=560,
    )
    panels.guarded("find", _found, height_px=200)


def _found() -> None:
    needle = url.get(_NEEDLE).strip()
    if needle and len(needle) < _LEAST_NEEDLE:
        raise Empty(f"Give at least {_LEAST_NEEDLE} characters.")
    if needle:
        rows = data.fetch("find_turns", {"needle": needle, "limit": settings().max_found}).rows
    else:
        view = filters.current_view()
        rows = data.fetch_view("turns", view, {"pick": "broken", "limit": settings().max_found}).rows
        st.caption(f"Or open one of the turns that broke in the {view.label}:" if rows else "")
    if needle and not rows:
        raise Empty(f"**Nothing fits `{needle}`.** A turn id begins with `trn_`, a trace id has 32 hexadecimal digits.", DEMO)
    opened = (
        linked_html(markup.turn_table(rows, tz=filters.zone(), now=filters.now(), kept=filters.kept()), key="found")
        if rows
        else None
    )
    if needle and len(rows) == 1 and needle in (rows[0]["turn_id"], rows[0].get("trace_id")):
        opened = rows[0]["turn_id"]
    if opened:
        nav.open_turn(opened, filters.kept())
