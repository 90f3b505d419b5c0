"""Evidence: do the answers rest on evidence?

Tools that were called against those that returned something, sources by route and over time, where they were evidenced, and the hosts that answers rely on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard import data, filters, markup, nav, panels, stats, text
from dashboard.charts import evidence, rate, sources
from dashboard.components import show
from dashboard.panels import DEMO, Empty
from dashboard.settings import settings
from dashboard.state import View
from dashboard.views import window

Row = Mapping[str, Any]

_SOURCELESS = rate.Words(rate="share without a source", counted="turn without a source", of="answered turn")
_FRUITLESS = rate.Words(rate="share without results", counted="call without results", of="tool call")


def page() -> None:
    """Draws the page."""
    refresh_s = window.head("Do the answers rest on evidence?")
    if window.nothing(refresh_s):
        return
    left, right = st.columns(2, gap="large")
    with left:
        panels.panel("tools", "Tools called, and what came of it", _tools, height_px=200, refresh_s=refresh_s)
    with right:
        panels.panel("outcomes", "Calls without results, over time", _fruitless, height_px=240, refresh_s=refresh_s)
    panels.panel("sourceless", "Answers without a source, over time", _sourceless, height_px=240, refresh_s=refresh_s)
    left, right = st.columns(2, gap="large")
    with left:
        panels.panel("counts", "Sources per answer, by route", _counts, height_px=200, refresh_s=refresh_s)
        panels.panel("origins", "Where sources were evidenced", _origins, height_px=140, refresh_s=refresh_s)
    with right:
        panels.panel("hosts", "Hosts that answers rely on", _hosts, height_px=300, refresh_s=refresh_s)


def _no_calls(view: View) -> Empty:
    window.overview(view)  # says why where the window has no turns at all
    return Empty(f"**No tool was called in the {view.label}.**", DEMO)


def _tools() -> None:
    view = filters.current_view()
    rows = [row for row in data.fetch_view("tools", view).rows if row["name"] is not None]
    if not rows:
        raise _no_calls(view)
    st.caption("Every call by what it came to; only usable evidence counts as results. An outcome below opens its turns.")
    shown = rows[: settings().max_tools]
    panels.chart(evidence.tools_called(shown, window.colours()), "tools")
    listed, links = [], []
    for row in shown:
        for outcome, label in evidence.OUTCOMES[1:]:
            if row[outcome]:
                query = {**filters.kept(), "tool": row["name"], "outcome": outcome}
                links.append(markup.page_link(nav.TURNS, query, f"{row['name']}: {label}"))
                listed.append(
                    {
                        "Outcome": label,
                        "Calls": text.count(row[outcome]),
                        "Of its calls": text.share(row[outcome] / row["calls"]),
                    }
                )
    if listed:
        window.follow(markup.link_table(listed, links), "outcome-list")
    if len(rows) > len(shown):
        st.caption(f"The {len(shown)} tools with most calls, of {len(rows)}.")


def _fruitless() -> None:
    view = filters.current_view()
    rows = [row for row in data.fetch_view("tools", view).rows if row["period"] == "now" and row["bucket"] is not None]
    if not rows:
        raise _no_calls(view)
    counted = [{"bucket": row["bucket"], "turns": row["calls"], "broken": row["calls"] - row["results"]} for row in rows]
    _share_over_time("fruitless", counted, view, _FRUITLESS)


def _sourceless() -> None:
    view = filters.current_view()
    rows = data.fetch_view("sourceless", view).rows
    if not rows:
        raise _unanswered(view)
    _share_over_time("sourceless", rows, view, _SOURCELESS)
    window.onward(nav.TURNS, "Show answers without a source", {"sources": "0"})


def _unanswered(view: View) -> Empty:
    window.overview(view)  # says why where the window has no turns at all
    return Empty(f"**No turn was answered in the {view.label}.** Only answered turns have sources.", DEMO)


def _share_over_time(name: str, rows: list[Any], view: View, words: rate.Words) -> None:
    total = sum(row["turns"] for row in rows)
    factor = stats.merge_factor(total, view.buckets)
    buckets = stats.bucketed(rows, start_ms=view.start_ms, end_ms=view.end_ms, bucket_ms=view.bucket_ms, factor=factor)
    hit = sum(row["broken"] for row in rows)
    st.caption(
        f"{hit:,} of {text.plural(total, words.of)} in steps of {window.step_said(view, factor)}. Grey band: 95% interval. Drag across to zoom in."
        + window.few_said(buckets)
    )
    window.zooming(name, rate.partial_rate(buckets, window.colours(), filters.zone(), words), view)


def _counts() -> None:
    view = filters.current_view()
    rows = data.fetch_view("source_counts", view).rows
    if not rows:
        raise _unanswered(view)
    st.caption("Of each route's answered turns, the share with so many sources; the most without any first.")
    panels.chart(
        sources.counts_by_route(rows, window.colours()), "counts", narrow=markup.table(evidence.sources_by_route(rows))
    )


def _origins() -> None:
    view = filters.current_view()
    rows = data.fetch_view("source_origins", view).rows
    if not any(row["origin"] is not None for row in rows):
        raise _no_sources(view)
    st.caption("A source may be evidenced in several places.")
    panels.chart(sources.origins(rows, window.colours()), "origins")


def _no_sources(view: View) -> Empty:
    window.overview(view)  # says why where the window has no turns at all
    return Empty(f"**No answer of the {view.label} rests on a source.**", DEMO)


def _hosts() -> None:
    view = filters.current_view()
    rows = data.fetch_view("source_domains", view, {"limit": settings().max_hosts}).rows
    if not rows:
        raise _no_sources(view)
    answered = sum(row["turns"] for row in data.fetch_view("source_counts", view).rows)
    st.caption("The most used first. Score: the mean rank score of the retrieval, where it found the source.")
    listed = [
        {
            "Host": row["host"],
            "Answers": text.count(row["turns"]),
            "Of all answers": text.share(row["turns"] / answered if answered else None),
            "Addresses": text.count(row["urls"]),
            "Score": text.NONE if row["mean_score"] is None else f"{row['mean_score']:.2f}",
        }
        for row in rows
    ]
    show(markup.table(listed), key="host-list")
    if len(rows) == settings().max_hosts:
        st.caption(f"The {settings().max_hosts} hosts that most answers rest on.")
