"""What every page about a window of turns shares: its rows, why it may be empty, the partial rate that zooms, and lists that lead on.

Owns the selection that a drag across a chart of time makes. Raises `Empty` where there is nothing, and lets `DashboardError` pass to the panel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import streamlit as st

from dashboard import data, filters, nav, panels, stats, text, url
from dashboard.charts import rate
from dashboard.charts.base import ZOOM, Chart
from dashboard.client import DashboardError
from dashboard.components import linked_html
from dashboard.markup import page_link, slice_table, turn_table
from dashboard.palette import Palette, palette
from dashboard.panels import DEMO, Empty
from dashboard.settings import settings
from dashboard.state import View

Row = Mapping[str, Any]
Overview = tuple[Row, Row | None, list[Row]]

_ZOOMED = "_zoomed"
_PARAMETERS = {
    "route": filters.ROUTE,
    "model_tier": filters.TIER,
    "model": "model",
    "tool": "tools",
    "service_version": "version",
    "service_instance": "instance",
}
"""The parameter of the Turns page for each attribute that turns are sliced by."""
_WORDS = {
    "route": "route",
    "model_tier": "tier",
    "model": "model",
    "tool": "tools",
    "service_version": "version",
    "service_instance": "process",
}


def colours() -> Palette:
    """The palette of the reader's theme."""
    return palette(st.context.theme.type)


def whole(rows: Sequence[Row], period: str) -> Row | None:
    """The row of a whole window, out of those that have buckets too."""
    return next((row for row in rows if row["period"] == period and row["bucket"] is None), None)


def overview(view: View) -> Overview:
    """The window as a whole, the window before (none where it holds too few turns to compare with), and the buckets.

    Raises:
        Empty: no turn ended in the window.
    """
    rows = data.fetch_view("overview", view).rows
    now, before = whole(rows, "now"), whole(rows, "before")
    if now is None or not now["turns"]:
        raise no_turns(view)
    enough = before is not None and before["turns"] >= stats.FEW_TURNS
    return now, before if enough else None, [row for row in rows if row["bucket"] is not None]


def no_turns(view: View) -> Empty:
    """Why a window is empty: nothing stored at all, filters, or a quiet time."""
    stored = data.fetch("span_of_data", {}).rows[0]
    if not stored["turns"]:
        return Empty("**No turn is stored yet.** Send some traffic with faults in it:", DEMO)
    newest = text.ago(stored["newest"], filters.now())
    if view.filtered:
        return Empty(f"**No turn of the {view.label} fits these filters.** Take one away, or choose a longer window.")
    return Empty(
        f"**No turn ended in the {view.label}.** The newest ended {newest}: choose a longer window, or send traffic:", DEMO
    )


def head(question: str, *, narrowing: bool = True) -> int | None:
    """The page's question and its filters; how often its panels refresh, in seconds. Without `narrowing` the page has a window only."""
    st.markdown(f"# {question}", anchors=False)
    filters.draw(narrowing=narrowing)
    return filters.refresh_s(filters.current_view())


def nothing(refresh_s: int | None) -> bool:
    """Whether the whole window is empty: that is said once, not by each panel. A failure is for the panels to show."""
    try:
        overview(filters.current_view())
    except Empty:
        panels.panel("nothing", "", _nothing_yet, height_px=120, refresh_s=refresh_s)
        return True
    except DashboardError:
        return False
    return False


def _nothing_yet() -> None:
    """Says why there is nothing; draws the whole page as soon as there is something."""
    overview(filters.current_view())
    st.rerun()


def step_said(view: View, factor: int = 1) -> str:
    """How long a step of a chart is, in words."""
    return text.span(timedelta(milliseconds=view.bucket_ms * factor))


def few_said(buckets: Sequence[stats.Bucket]) -> str:
    """What a hollow step means, where there is one."""
    thin = any(bucket.thin for bucket in buckets if bucket.turns)
    return f" Dashed and hollow: fewer than {stats.FEW_TURNS} turns, so the step may be chance." if thin else ""


def partial_rate() -> None:
    """The partial rate over time; a drag across it becomes the window."""
    view = filters.current_view()
    now, _, rows = overview(view)
    factor = stats.merge_factor(now["turns"], view.buckets)
    buckets = stats.bucketed(rows, start_ms=view.start_ms, end_ms=view.end_ms, bucket_ms=view.bucket_ms, factor=factor)
    st.caption(
        f"Turns that ended partial, abandoned or in error on our side, in steps of {step_said(view, factor)}. "
        f"Grey band: 95% interval. Drag across to zoom in." + few_said(buckets)
    )
    incidents = [
        tuple(round((at or filters.now()).timestamp() * 1000) for at in (row["since_at"], row["resolved_at"]))
        for row in data.fetch_view("alert_spans", view, {"limit": settings().max_alerts}).rows
    ]
    drawn = rate.partial_rate(buckets, colours(), filters.zone(), incidents=[(first, last) for first, last in incidents])
    zooming("rate", drawn, view)


def zooming(name: str, drawn: Chart, view: View, **more: Any) -> None:
    """Draws a chart over time whose selection is the window from then on."""
    # A new window is a new chart: the old one's selection would cover all of it.
    key = f"{name}-live" if view.live else f"{name}-{view.start_ms}-{view.end_ms}"
    panels.chart(drawn, key, on_select=lambda: _zoomed(key), **more)
    if st.session_state.pop(_ZOOMED, False):
        st.rerun()


def _zoomed(key: str) -> None:
    """A drag across a chart became a selection: it is the window from now on."""
    selected = st.session_state[panels.chart_key(key)].selection.get(ZOOM, {}).get("start_ms")
    if selected and len(selected) == 2:
        filters.zoom(*selected)
        st.session_state[_ZOOMED] = True


def turn_list(rows: Sequence[Row], key: str) -> None:
    """Turns whose rows open them."""
    follow(turn_table(rows, tz=filters.zone(), now=filters.now(), kept=filters.kept()), key)


def follow(body: str, key: str) -> None:
    """Draws HTML and goes where its links lead."""
    opened = linked_html(body, key=key)
    if opened:
        nav.follow(opened, filters.kept())


def slices(rows: Sequence[Row], what: str, query: Mapping[str, str], key: str, *, compare: bool) -> None:
    """What is different about some turns, ranked; a slice leads to its turns. Rows are those of `lastword.explain`; without turns of before no rate is usual."""
    listed = []
    for row in rows:
        attributes: dict[str, str] = msgspec.json.decode(row["attributes"], type=dict[str, str])
        narrowed = {_PARAMETERS[name]: value for name, value in attributes.items()}
        said = " · ".join(f"{_WORDS[name]} {value}" for name, value in attributes.items())
        listed.append(
            (
                page_link(nav.TURNS, {**filters.kept(), **query, **narrowed}, said),
                row["rate"],
                row["usual"] if compare else 0.0,
                text.share(row["rate"]),
                text.share(row["usual"] if compare else None),
                f"{row['broken']:,} of {row['turns']:,}",
            )
        )
    follow(slice_table(listed, what), key)


def onward(name: str, label: str, query: Mapping[str, str] | None = None, *, icon: str = ":material/arrow_forward:") -> None:
    """A link to another page about the same window."""
    st.page_link(nav.page(name), label=label, icon=icon, query_params={**filters.kept(), **(query or {})})


def choice(label: str, name: str, options: Sequence[str], *, said: Callable[[str], str] = str.capitalize) -> str:
    """A row of choices that stands in the URL; the first is the default. What was chosen."""
    value = url.get(name) if url.get(name) in options else options[0]
    st.segmented_control(
        label,
        options,
        required=True,
        format_func=said,
        key=url.seed(name, value),
        on_change=url.chosen,
        args=(name, options[0]),
        label_visibility="collapsed",
    )
    return value
