"""Overview: are people getting whole answers now?

Five figures, the partial rate over time and by route, where the time goes, what answers rest on, and the turns themselves. A drag across the rate zooms in,
a route filters, a row opens its turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from math import ceil
from typing import Any

import streamlit as st

from dashboard import data, filters, nav, panels, stats, text, url
from dashboard.charts import evidence, rate, stages
from dashboard.client import DashboardError
from dashboard.components import linked_html
from dashboard.markup import table, turn_table
from dashboard.palette import Palette, palette
from dashboard.panels import DEMO, Empty
from dashboard.settings import settings
from dashboard.state import View
from dashboard.views import figures

Row = Mapping[str, Any]

PICKS = ("newest", "slowest", "broken")
_ZOOMED = "_zoomed"
_ROUTE_CARD_PX = 240
_MOST_COLUMNS = 5
_SMALL_STEPS = 24  # in a small multiple: more are narrower than their own outline
_NO_ROUTE = "(none)"


def page() -> None:
    """Draws the page."""
    st.markdown("# Are people getting whole answers?", anchors=False)
    filters.draw()
    refresh_s = filters.refresh_s(filters.current_view())
    if _empty():
        panels.panel("nothing", "", _nothing_yet, height_px=120, refresh_s=refresh_s)
        return
    panels.panel("figures", "", _figures, height_px=170, refresh_s=refresh_s)
    panels.panel("rate", "Partial rate", _rate, height_px=240, refresh_s=refresh_s)
    panels.panel("routes", "Routes, worst first", _routes, height_px=150, refresh_s=refresh_s)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        panels.panel("stages", "Where the time goes", _stages, height_px=320, refresh_s=refresh_s)
    with right:
        panels.panel("sources", "Sources per answer", _sources, height_px=230, refresh_s=refresh_s)
        panels.panel("tools", "Tools called, and what came of it", _tools, height_px=160, refresh_s=refresh_s)
    panels.panel("turns", "Turns", _turns, height_px=300, refresh_s=refresh_s)


def _empty() -> bool:
    """Whether the whole window is empty: that is said once, not by each panel. A failure is for the panels to show."""
    try:
        _overview(filters.current_view())
    except Empty:
        return True
    except DashboardError:
        return False
    return False


def _nothing_yet() -> None:
    """Says why there is nothing; draws the whole page as soon as there is something."""
    _overview(filters.current_view())
    st.rerun()


def _palette() -> Palette:
    return palette(st.context.theme.type)


def _whole(rows: Sequence[Row], period: str) -> Row | None:
    return next((row for row in rows if row["period"] == period and row["bucket"] is None), None)


def _overview(view: View) -> tuple[Row, Row | None, list[Row]]:
    """The window as a whole, the window before (none where it holds too few turns to compare with), and the buckets.

    Raises:
        Empty: no turn ended in the window.
    """
    rows = data.fetch_view("overview", view).rows
    whole, before = _whole(rows, "now"), _whole(rows, "before")
    if whole is None or not whole["turns"]:
        raise _no_turns(view)
    enough = before is not None and before["turns"] >= stats.FEW_TURNS
    return whole, before if enough else None, [row for row in rows if row["bucket"] is not None]


def _no_turns(view: View) -> Empty:
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


def _figures() -> None:
    view = filters.current_view()
    now, before, buckets = _overview(view)
    figures.draw(view, now, before, buckets, data.fetch_view("tools", view).rows)


def _rate() -> None:
    view = filters.current_view()
    now, _, rows = _overview(view)
    factor = stats.merge_factor(now["turns"], view.buckets)
    buckets = stats.bucketed(rows, start_ms=view.start_ms, end_ms=view.end_ms, bucket_ms=view.bucket_ms, factor=factor)
    thin = sum(bucket.thin for bucket in buckets if bucket.turns)
    st.caption(
        f"Turns that ended partial, abandoned or in error on our side, in steps of {text.span(timedelta(milliseconds=view.bucket_ms * factor))}. "
        f"Grey band: 95% interval. Drag across to zoom in."
        + (f" Dashed and hollow: fewer than {stats.FEW_TURNS} turns, so the step may be chance." if thin else "")
    )
    drawn = rate.partial_rate(buckets, _palette(), filters.zone())
    # A new window is a new chart: the old one's selection would cover all of it.
    key = "rate-live" if view.live else f"rate-{view.start_ms}-{view.end_ms}"
    panels.chart(drawn, key, on_select=lambda: _zoomed(key))
    if st.session_state.pop(_ZOOMED, False):
        st.rerun()


def _zoomed(key: str) -> None:
    """A drag across the rate became a selection: it is the window from now on."""
    selected = st.session_state[panels.chart_key(key)].selection.get(rate.ZOOM, {}).get("start_ms")
    if selected and len(selected) == 2:
        filters.zoom(*selected)
        st.session_state[_ZOOMED] = True


def _routes() -> None:
    view = filters.current_view()
    rows = data.fetch_view("routes", view).rows
    whole = [row for row in rows if row["bucket"] is None]
    if not whole:
        raise _no_turns(view)
    # By the interval's lower end, not the rate itself: one broken turn of one is no worst route. Turns that never reached a route come last.
    whole.sort(key=lambda row: (row["route"] == _NO_ROUTE, -stats.wilson(row["broken"], row["turns"])[0], -row["turns"]))
    shown = whole[: settings().max_routes]
    # One width of step for all: the one that suits a route of middling traffic.
    middling = sorted(row["turns"] for row in shown)[len(shown) // 2]
    factor = max(stats.merge_factor(middling, view.buckets), ceil(view.buckets / _SMALL_STEPS))
    runs = {
        row["route"]: stats.bucketed(
            [each for each in rows if each["route"] == row["route"] and each["bucket"] is not None],
            start_ms=view.start_ms,
            end_ms=view.end_ms,
            bucket_ms=view.bucket_ms,
            factor=factor,
        )
        for row in shown
    }
    top = rate.top_of_scale(list(runs.values()))
    charts = [rate.route_rate(run, top, _palette(), filters.zone(), route) for route, run in runs.items()]
    st.caption(
        f"Partial rate in steps of {text.span(timedelta(milliseconds=view.bucket_ms * factor))}, all on one scale (0 to {text.share(top)}). "
        "Choose a route to filter the page on it."
    )
    with st.grid(_columns(len(shown)), min_column_width=_ROUTE_CARD_PX, gap="small"):
        for row, drawn in zip(shown, charts, strict=True):
            with st.container(border=True, gap="xxsmall", key=f"route-card-{row['route']}"):
                _route_head(row, view)
                panels.chart(drawn, f"route-{row['route']}", under=False)
    if len(whole) > len(shown):
        st.caption(f"{text.plural(len(whole) - len(shown), 'more route')} in the table.")
    panels.as_table(" ".join(drawn.alt for drawn in charts[:3]), [_route_reading(row) for row in whole], "routes")


def _columns(cards: int) -> int:
    """As many columns as leave the last row full or nearly so."""
    return (
        cards if cards <= _MOST_COLUMNS else min(range(3, _MOST_COLUMNS + 1), key=lambda columns: (-cards % columns, -columns))
    )


def _route_head(row: Row, view: View) -> None:
    if row["route"] == _NO_ROUTE:
        st.markdown("no route", help="These turns never ended, or ended before a route was chosen.")
        st.markdown(_route_line(row))
        return
    chosen = view.route == row["route"]
    pressed = st.button(
        row["route"],
        key=f"filter-{row['route']}",
        type="tertiary",
        icon=":material/filter_alt_off:" if chosen else ":material/filter_alt:",
        help="Show all routes again" if chosen else f"Show only {row['route']}",
        on_click=filters.choose_route,
        args=(row["route"],),
    )
    st.markdown(_route_line(row))
    if pressed:
        st.rerun()


def _route_line(row: Row) -> str:
    return f"**{text.share(row['broken'] / row['turns'])}** partial of {text.plural(row['turns'], 'turn')}"


def _route_reading(row: Row) -> dict[str, Any]:
    low, high = stats.wilson(row["broken"], row["turns"])
    return {
        "Route": row["route"],
        "Partial rate": text.share(row["broken"] / row["turns"]),
        "95% interval": f"{text.share(low)} to {text.share(high)}",
        "Partial turns": text.count(row["broken"]),
        "Turns": text.count(row["turns"]),
        "First token p95": text.duration(row["first_token_p95_ms"]),
    }


def _stages() -> None:
    view = filters.current_view()
    rows = data.fetch_view("stages", view).rows
    if not any(row["period"] == "now" for row in rows):
        raise _no_turns(view)
    st.caption("Dot: median. Bar end: 95th percentile, hollow diamond the same one window earlier. Logarithmic scale.")
    drawn = stages.stage_latency(rows, _palette())
    short = [{name: row[name] for name in ("Stage", "p50", "p95")} for row in drawn.rows]
    panels.chart(drawn, "stages", narrow=table(short))


def _sources() -> None:
    view = filters.current_view()
    rows = data.fetch_view("source_counts", view).rows
    none, answered = evidence.without_source(rows)
    if not answered:
        raise Empty(f"**No turn was answered in the {view.label}.** Only answered turns have sources.", DEMO)
    st.caption(f"{text.share(none / answered)} of {text.plural(answered, 'answered turn')} rest on no source.")
    panels.chart(evidence.source_counts(rows, _palette()), "sources")


def _tools() -> None:
    view = filters.current_view()
    rows = [row for row in data.fetch_view("tools", view).rows if row["period"] == "now" and row["name"] is not None]
    if not rows:
        raise Empty(f"**No tool was called in the {view.label}.** Routes name the tools that the model may use.")
    st.caption("Calls per tool; the filled part returned usable evidence.")
    panels.chart(evidence.tools_called(rows, _palette()), "tools")


def _turns() -> None:
    view = filters.current_view()
    pick = url.get(filters.PICK) if url.get(filters.PICK) in PICKS else PICKS[0]
    st.segmented_control(
        "Which turns",
        PICKS,
        required=True,
        format_func=str.capitalize,
        key=url.seed(filters.PICK, pick),
        on_change=url.chosen,
        args=(filters.PICK, PICKS[0]),
        label_visibility="collapsed",
    )
    rows = data.fetch_view("turns", view, {"pick": pick, "limit": settings().max_listed_turns}).rows
    if not rows and pick == "broken":
        _overview(view)  # says why where the window has no turns at all
        raise Empty(f"**No turn broke in the {view.label}.** Every answer was whole, or its reader had left.")
    if not rows:
        raise _no_turns(view)
    body = turn_table(rows, tz=filters.zone(), now=filters.now(), kept=filters.kept())
    opened = linked_html(body, key="turn-list")
    if opened:
        nav.open_turn(opened, filters.kept())
