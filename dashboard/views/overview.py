"""Overview: are people getting whole answers now?

Five figures, the partial rate over time and by route, where the time goes, what answers rest on, and the turns themselves. A drag across the rate zooms in,
a route filters, a row opens its turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

import streamlit as st

from dashboard import data, filters, nav, panels, stats, text
from dashboard.cards import RouteCard, route_cards
from dashboard.charts import evidence, rate, stages
from dashboard.markup import page_url, table
from dashboard.panels import DEMO, Empty
from dashboard.settings import settings
from dashboard.state import View
from dashboard.views import figures, window

Row = Mapping[str, Any]

PICKS = ("newest", "slowest", "broken")
_SMALL_STEPS = 24  # in a small multiple: more are narrower than their own outline
_NO_ROUTE = "(none)"


def page() -> None:
    """Draws the page."""
    refresh_s = window.head("Are people getting whole answers?")
    if window.nothing(refresh_s):
        return
    panels.panel("alerts", "", _alerts, height_px=10, refresh_s=refresh_s)
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


def _alerts() -> None:
    """What fires now, in a line each; nothing where nothing does."""
    firing = data.fetch("alerts_firing", {"limit": settings().max_firing}).rows
    for row in firing:
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"alert-{row['alert_id']}"):
            st.markdown(
                f":{'red' if row['severity'] == 'page' else 'orange'}-badge[✕ {row['severity']}] {text.plain(row['summary'] or row['rule'])}",
                width="content",
            )
            window.onward(nav.ALERTS, f"since {text.ago(row['since_at'], filters.now())}", {"alert": row["alert_id"]})


def _figures() -> None:
    view = filters.current_view()
    now, before, buckets = window.overview(view)
    figures.draw(view, now, before, buckets, data.fetch_view("tools", view).rows)


def _rate() -> None:
    window.partial_rate()
    window.onward(nav.PARTIALS, "Which turns broke, and why")


def _routes() -> None:
    view = filters.current_view()
    rows = data.fetch_view("routes", view).rows
    whole = [row for row in rows if row["bucket"] is None]
    if not whole:
        raise window.no_turns(view)
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
    multiples = [rate.route_rate(run, top, filters.zone(), route) for route, run in runs.items()]
    st.caption(
        f"Partial rate in steps of {window.step_said(view, factor)}, all on one scale (0 to {text.share(top)}). "
        "Choose a route to filter the page on it."
    )
    cards = route_cards(_card(row, one, view, top) for row, one in zip(shown, multiples, strict=True))
    window.follow(cards, "route-cards")
    if len(whole) > len(shown):
        st.caption(f"{text.plural(len(whole) - len(shown), 'more route')} in the table.")
    panels.as_table(" ".join(one.alt for one in multiples[:3]), [_route_reading(row) for row in whole], "routes")


def _card(row: Row, one: rate.Small, view: View, top: float) -> RouteCard:
    named = row["route"] != _NO_ROUTE
    chosen = named and view.route == row["route"]
    kept = {**filters.kept(), filters.ROUTE: row["route"]}
    if chosen:
        kept.pop(filters.ROUTE)
    return RouteCard(
        name=row["route"] if named else "no route",
        address=page_url("", kept) if named else None,
        chosen=chosen,
        rate=text.share(row["broken"] / row["turns"]),
        of=f"partial of {text.plural(row['turns'], 'turn')}",
        alt=one.alt,
        picture=one.svg,
        top=text.share(top),
        ticks=one.ticks,
    )


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
        raise window.no_turns(view)
    st.caption("Dot: median. Bar end: 95th percentile, hollow diamond the same one window earlier. Logarithmic scale.")
    drawn = stages.stage_latency(rows, window.colours())
    short = [{name: row[name] for name in ("Stage", "p50", "p95")} for row in drawn.rows]
    panels.chart(drawn, "stages", narrow=table(short))


def _sources() -> None:
    view = filters.current_view()
    rows = data.fetch_view("source_counts", view).rows
    none, answered = evidence.without_source(rows)
    if not answered:
        raise Empty(f"**No turn was answered in the {view.label}.** Only answered turns have sources.", DEMO)
    st.caption(f"{text.share(none / answered)} of {text.plural(answered, 'answered turn')} rest on no source.")
    panels.chart(evidence.source_counts(rows, window.colours()), "sources")


def _tools() -> None:
    view = filters.current_view()
    rows = [row for row in data.fetch_view("tools", view).rows if row["period"] == "now" and row["name"] is not None]
    if not rows:
        raise Empty(f"**No tool was called in the {view.label}.** Routes name the tools that the model may use.")
    st.caption("Calls per tool; the filled part returned usable evidence.")
    panels.chart(evidence.tools_called(rows, window.colours()), "tools")


def _turns() -> None:
    view = filters.current_view()
    pick = window.choice("Which turns", filters.PICK, PICKS)
    rows = data.fetch_view("turns", view, {"pick": pick, "limit": settings().max_listed_turns}).rows
    if not rows and pick == "broken":
        window.overview(view)  # says why where the window has no turns at all
        raise Empty(f"**No turn broke in the {view.label}.** Every answer was whole, or its reader had left.")
    if not rows:
        raise window.no_turns(view)
    window.turn_list(rows, "turn-list")
