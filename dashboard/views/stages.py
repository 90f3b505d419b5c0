"""Stages: where did the time go?

Each stage against its own usual, every turn of one stage, and what the turns in a box have in common. A click in the matrix chooses the stage, a drag over the heat map
draws the box; both stand in the URL.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Any

import streamlit as st
from msgspec import Struct

from dashboard import data, filters, markup, nav, panels, state, stats, text, url
from dashboard.charts import latency
from dashboard.panels import Empty
from dashboard.settings import settings
from dashboard.stages import LABELS
from dashboard.state import View
from dashboard.views import window

Row = Mapping[str, Any]

STAGE, BOX = "stage", "box"
_DEFAULT = "first_token_ms"
_REDRAWN = "_redrawn"
_LARGEST_MS = 10**9


class Box(Struct, frozen=True, kw_only=True):
    """A part of the heat map: times in milliseconds since 1970, and the stage's milliseconds. `drawn`: by a person."""

    start_ms: int
    end_ms: int
    low_ms: int
    high_ms: int
    drawn: bool = True


def page() -> None:
    """Draws the page."""
    refresh_s = window.head("Where did the time go?")
    if window.nothing(refresh_s):
        return
    panels.panel("matrix", "Each stage against its usual", _matrix, height_px=330, refresh_s=refresh_s)
    _stage_control()
    left, right = st.columns([3, 2], gap="large")
    with left:
        panels.panel("heat", "", _heat, height_px=360, refresh_s=refresh_s)
    with right:
        panels.panel("box", "", _box, height_px=360, refresh_s=refresh_s)
    panels.panel("shares", "Of all the time, by route", _shares, height_px=200, refresh_s=refresh_s)


def _stage() -> str:
    return url.get(STAGE) if url.get(STAGE) in LABELS else _DEFAULT


def _stage_control() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.selectbox(
            "Stage",
            [*LABELS],
            format_func=LABELS.__getitem__,
            key=url.seed(STAGE, _stage()),
            on_change=_stage_chosen,
            width=240,
        )
        if read_box(url.get(BOX)):
            st.button("Drop the box", icon=":material/close:", on_click=url.put, args=({BOX: None},))


def _stage_chosen() -> None:
    chosen = st.session_state[url.widget(STAGE)]
    url.put({STAGE: None if chosen == _DEFAULT else chosen, BOX: None})


def _factor(view: View, turns: int) -> int:
    """How many neighbouring buckets are one step: steps of enough turns, and columns that can be told apart."""
    return max(stats.merge_factor(turns, view.buckets), ceil(view.buckets / latency.MOST_COLUMNS))


def _matrix() -> None:
    view = filters.current_view()
    now, _, _ = window.overview(view)
    factor = _factor(view, now["turns"])
    step_ms = view.bucket_ms * factor
    rows = data.fetch_view("stage_matrix", view, {"bucket_ms": step_ms}).rows
    st.caption(
        f"95th percentile by steps of {window.step_said(view, factor)}, divided by the stage's usual one: the median of its steps in this window and the one before. "
        f"Less than {latency.QUIET_MS:.0f} ms counts as that. Pale: fewer than {stats.FEW_TURNS} turns. Choose a stage by its row."
    )
    drawn = latency.matrix(rows, view, step_ms, window.colours(), filters.zone())
    key = f"matrix-{view.start_ms}-{view.end_ms}-{_stage()}"
    panels.chart(drawn, key, on_select=lambda: _cell_chosen(key), narrow=markup.table(drawn.rows[: settings().max_places]))
    _redraw()


def _cell_chosen(key: str) -> None:
    picked = st.session_state[panels.chart_key(key)].selection.get(latency.CELL) or []
    column = picked[0].get("column") if picked else None
    if column in LABELS and column != _stage():
        url.put({STAGE: None if column == _DEFAULT else column, BOX: None})
        st.session_state[_REDRAWN] = True


def _redraw() -> None:
    """A choice inside of a panel concerns the whole page."""
    if st.session_state.pop(_REDRAWN, False):
        st.rerun()


def _heat_rows(view: View) -> tuple[list[dict[str, Any]], int]:
    now, _, _ = window.overview(view)
    step_ms = view.bucket_ms * _factor(view, now["turns"])
    rows = data.fetch_view("stage_heat", view, {"bucket_ms": step_ms, "stage": _stage()}).rows
    if not any(row["size"] is not None for row in rows):
        raise Empty(f"**{LABELS[_stage()]} ran in no turn of the {view.label}.** Choose another stage.")
    return rows, step_ms


def _heat() -> None:
    view = filters.current_view()
    rows, step_ms = _heat_rows(view)
    st.markdown(f"## {LABELS[_stage()]}: every turn, not an average", anchors=False)
    st.caption(
        "Colour: turns of a step that took so long. Lines: p50, p95, p99. Logarithmic. Drag a box over a cloud to ask what is in it."
    )
    box = read_box(url.get(BOX))
    corners = (box.start_ms, box.end_ms, box.low_ms, box.high_ms) if box else None
    drawn = latency.heat(rows, view, step_ms, window.colours(), filters.zone(), corners)
    key = f"heat-{_stage()}-{'live' if view.live else f'{view.start_ms}-{view.end_ms}'}-{url.get(BOX)}"
    short = markup.table(drawn.rows[-settings().max_places :])
    panels.chart(drawn, key, on_select=lambda: _box_drawn(key), narrow=short)
    _redraw()


def _box_drawn(key: str) -> None:
    selected = st.session_state[panels.chart_key(key)].selection.get(latency.BOX, {})
    times, sizes = selected.get("start_ms"), selected.get("low")
    if times and sizes and len(times) == len(sizes) == 2:
        parts = (*sorted(times), *sorted(sizes))
        url.put({BOX: "~".join(str(round(part)) for part in parts)})
        st.session_state[_REDRAWN] = True


def read_box(value: str) -> Box | None:
    """A box as it stands in the URL: start, end, least and most, whole milliseconds; none where it is no such thing."""
    parts = value.split("~")
    if len(parts) != 4 or not all(part.isascii() and part.isdecimal() and len(part) <= 15 for part in parts):
        return None
    start_ms, end_ms, low_ms, high_ms = (int(part) for part in parts)
    sensible = start_ms < end_ms and low_ms <= high_ms
    return Box(start_ms=start_ms, end_ms=end_ms, low_ms=low_ms, high_ms=high_ms) if sensible else None


def _current_box(view: View, rows: Sequence[Row]) -> Box:
    """The box that was drawn, or else the slowest twentieth of the window."""
    drawn = read_box(url.get(BOX))
    if drawn:
        return drawn
    whole = next(row for row in rows if row["bucket"] is None)
    return Box(start_ms=view.start_ms, end_ms=view.end_ms, low_ms=ceil(whole["p95_ms"]), high_ms=_LARGEST_MS, drawn=False)


def _iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def _box() -> None:
    view = filters.current_view()
    rows, _ = _heat_rows(view)
    box, stage = _current_box(view, rows), _stage()
    asked = {
        **view.params(),
        "stage": stage,
        "low_ms": box.low_ms,
        "high_ms": box.high_ms,
        "box_start": _iso(box.start_ms),
        "box_end": _iso(box.end_ms),
    }
    st.markdown(f"## What is different {'in the box' if box.drawn else 'about the slowest twentieth'}?", anchors=False)
    _, before, _ = window.overview(view)
    st.caption(f"{_said(box, stage)} " + _compared(box, view, compare=before is not None))
    ranked = data.fetch_ranking("stage_marked", asked, settings().max_slices).rows
    query = _box_query(box, stage)
    if ranked:
        window.slices(ranked, "So long", query, "box-slices", compare=box.drawn or before is not None)
    else:
        panels.nothing("slow-ones", Empty("**Nothing stands out.** Turns that took so long are spread as turns usually are."))
    window.onward(nav.TURNS, "Show these turns", query)


def _said(box: Box, stage: str) -> str:
    upper = f" to {text.duration(box.high_ms)}" if box.high_ms < _LARGEST_MS else " or more"
    first, last = (datetime.fromtimestamp(ms / 1000, UTC).astimezone(filters.zone()) for ms in (box.start_ms, box.end_ms))
    when = f", ended {first:%d %b %H:%M} to {last:%H:%M}" if box.drawn else ""
    return f"{LABELS[stage]} {text.duration(box.low_ms)}{upper}{when}."


def _compared(box: Box, view: View, *, compare: bool) -> str:
    if box.drawn:
        return "Usual is how often it took so long outside of the box's time, in this window and the one before."
    if compare:
        return f"Usual is how often it took so long in the {text.span(view.length)} before."
    return f"Too few turns in the {text.span(view.length)} before to know what is usual."


def _box_query(box: Box, stage: str) -> dict[str, str]:
    """The parameters of the Turns page for what is in the box."""
    query = {STAGE: stage, "low": str(box.low_ms), filters.PICK: "slowest"}
    if box.high_ms < _LARGEST_MS:
        query["high"] = str(box.high_ms)
    if box.drawn:
        first, last = state.write_custom(box.start_ms, box.end_ms)
        query |= {filters.WINDOW: state.CUSTOM, filters.FROM: first, filters.TO: last}
    return query


def _shares() -> None:
    view = filters.current_view()
    rows = data.fetch_view("stage_shares", view).rows
    if not rows:
        raise window.no_turns(view)
    st.caption(
        "How the time of all turns of a route is spent, in the order of the machine; the last, grey part is claimed by no stage. Hover for the small ones."
    )
    drawn = latency.shares(rows, window.colours())
    largest = sorted(rows, key=lambda row: -(row["share"] or 0))[: settings().max_places]
    short = [{"Route": row["route"], "Stage": row["stage"], "Share": text.share(row["share"])} for row in largest]
    panels.chart(drawn, "shares", narrow=markup.table(short))
