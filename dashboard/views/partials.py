"""Partials: which turns broke, where, why, and what do they share?

An alert's link opens this page on the alert's window. A drag across a chart of time narrows the window; rows lead to the turns behind them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard import data, filters, markup, panels, stats, text
from dashboard.charts import partials
from dashboard.client import Result
from dashboard.panels import Empty
from dashboard.settings import settings
from dashboard.state import View
from dashboard.views import window

Row = Mapping[str, Any]

_BROKEN = "broken"


def page() -> None:
    """Draws the page."""
    refresh_s = window.head("Which turns broke, and why?")
    if window.nothing(refresh_s):
        return
    panels.panel("rate", "Partial rate", window.partial_rate, height_px=240, refresh_s=refresh_s)
    panels.panel("reasons", "Why they broke", _reasons, height_px=260, refresh_s=refresh_s)
    panels.panel("different", "What is different?", _different, height_px=160, refresh_s=refresh_s)
    left, right = st.columns(2, gap="large")
    with left:
        panels.panel("where", "Where they broke", _where, height_px=220, refresh_s=refresh_s)
        panels.panel("breaks", "How long after the first visible token", _breaks, height_px=190, refresh_s=refresh_s)
    with right:
        panels.panel("stage", "In which stage", _stage, height_px=120, refresh_s=refresh_s)
        panels.panel("endings", "What became of turns in trouble", _endings, height_px=190, refresh_s=refresh_s)
    panels.panel("turns", "Broken turns", _turns, height_px=300, refresh_s=refresh_s)


def _broken(view: View) -> Result:
    """The broken turns, counted.

    Raises:
        Empty: none broke, or no turn ended at all.
    """
    result = data.fetch_view("partials", view)
    if not result.rows:
        now, _, _ = window.overview(view)
        raise Empty(
            f"**None of {text.plural(now['turns'], 'turn')} broke in the {view.label}.** Every answer was whole, or its reader had left."
        )
    return result


def _reasons() -> None:
    view = filters.current_view()
    rows = _broken(view).rows
    now, _, _ = window.overview(view)
    factor = stats.merge_factor(now["turns"], view.buckets)
    st.caption(
        f"Broken turns by reason, in steps of {window.step_said(view, factor)}. Drag across to zoom in; choose a reason to see its turns."
    )
    left, right = st.columns([3, 2], gap="medium")
    with left:
        window.zooming("reasons", partials.reasons_over_time(rows, view, factor, window.colours(), filters.zone()), view)
    with right:
        _reason_list(rows, now["turns"])


def _reason_list(rows: Sequence[Row], all_turns: int) -> None:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["reason"]] = counts.get(row["reason"], 0) + row["turns"]
    total = sum(counts.values())
    names = sorted(counts, key=lambda name: (-counts[name], name))
    listed = [
        {
            "Reason": name,
            "Broken turns": text.count(counts[name]),
            "Of all broken": text.share(counts[name] / total),
            "Of all turns": text.share(counts[name] / all_turns),
        }
        for name in names
    ]
    links = [markup.page_link("turns", {**filters.kept(), filters.PICK: _BROKEN, filters.REASON: name}, name) for name in names]
    window.follow(markup.link_table(listed, links), "reason-list")


def _different() -> None:
    view = filters.current_view()
    _broken(view)
    rows = data.fetch_ranking("partial_marked", view.params(), settings().max_slices).rows
    if not rows:
        raise Empty(
            "**Nothing stands out.** Broken turns are spread over routes, tiers, models, tools, versions and processes as turns usually are."
        )
    _, before, _ = window.overview(view)
    st.caption(
        (
            f"Slices that break more than the {text.span(view.length)} before would have it, the first cause first. Upper bar: partial rate now, lower bar: as usual. "
            if before
            else f"Slices that break more than the rest, the first cause first; too few turns in the {text.span(view.length)} before to know what is usual. "
        )
        + "A slice opens its broken turns."
    )
    window.slices(rows, "Partial rate", {filters.PICK: _BROKEN}, "slices", compare=before is not None)


def _where() -> None:
    view = filters.current_view()
    result = data.fetch_view("partial_where", view, {"limit": settings().max_places})
    if not result.rows:
        raise window.no_turns(view)
    drawn = partials.where(result.rows, window.colours())
    compared = any(row["turns_before"] >= stats.FEW_TURNS for row in result.rows)
    st.caption(
        "Partial rate by route and tier with its 95% interval, worst first. Hollow dot: few turns."
        + (" Diamond: the window before." if compared else "")
    )
    short = [{name: row[name] for name in ("Route and tier", "Partial rate", "Partial turns")} for row in drawn.rows]
    panels.chart(drawn, "where", narrow=markup.table(short))
    unrouted = sum(row["turns"] for row in result.rows if row["route"] is None)
    if unrouted:
        st.caption(f"{text.plural(unrouted, 'turn')} without a route: ended before one was chosen, or lost. In the table.")
    if len(result.rows) == settings().max_places:
        st.caption(f"The {settings().max_places} with most broken turns.")


def _stage() -> None:
    view = filters.current_view()
    st.caption("The last stage with a time before the answer was settled; colours are those of the reasons above.")
    panels.chart(partials.broken_in(_broken(view).rows, window.colours()), "stage")


def _breaks() -> None:
    view = filters.current_view()
    rows = data.fetch_view("partial_breaks", view).rows
    if not any(row["size"] is not None for row in rows):
        _broken(view)
        raise Empty(f"**No turn broke after text was shown** in the {view.label}: all broke before it.")
    drawn = partials.time_to_break(rows, window.colours())
    st.caption(f"{drawn.alt} Logarithmic scale.")
    panels.chart(drawn, "breaks")


def _endings() -> None:
    view = filters.current_view()
    _, before, _ = window.overview(view)
    rows = data.fetch_view("partial_ends", view).rows
    if not any(row["period"] == "now" for row in rows):
        raise Empty(f"**Every turn of the {view.label} went right at once.** None was retried, degraded or cut.")
    st.caption(
        "Until the first visible token a turn can be saved; after it, what was shown is kept."
        + (" Hollow diamond: the window before." if before else "")
    )
    drawn = partials.endings(rows, window.colours(), compare=before is not None)
    short = [{name: row[name] for name in ("Turn", "Turns")} for row in drawn.rows]
    panels.chart(drawn, "endings", narrow=markup.table(short))


def _turns() -> None:
    view = filters.current_view()
    rows = data.fetch_view("turns", view, {"pick": _BROKEN, "limit": settings().max_listed_turns}).rows
    if not rows:
        _broken(view)
        raise window.no_turns(view)
    window.turn_list(rows, "broken-list")
