"""Pipeline: can I trust these pages?

The collector's own health, what it received over time, what it refused, and how whole the stored turns are.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboard import data, filters, health, markup, panels, text
from dashboard.charts import pipeline
from dashboard.components import show
from dashboard.panels import DEMO, Empty
from dashboard.settings import settings
from dashboard.views import window

Row = Mapping[str, Any]

_CARD_PX = 150
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def page() -> None:
    """Draws the page."""
    refresh_s = window.head("Can I trust these pages?", narrowing=False)
    live_s = settings().refresh_s  # the collector's health is of now, whatever the window
    panels.panel("health", "The collector, now", _health, height_px=150, refresh_s=live_s)
    left, right = st.columns(2, gap="large")
    with left:
        panels.panel("troubles", "Refused, rejected, failed", _troubles, height_px=260, refresh_s=live_s)
    with right:
        panels.panel("gaps", "How whole is the data?", _gaps, height_px=260, refresh_s=refresh_s)
    panels.panel("received", "Received", _received, height_px=280, refresh_s=refresh_s)
    left, right = st.columns(2, gap="large")
    with left:
        panels.panel("violations", "Where turns break the contract", _violations, height_px=160, refresh_s=refresh_s)
    with right:
        panels.panel("stored", "Stored", _stored, height_px=160, refresh_s=live_s)


def size(count: int | None) -> str:
    """Bytes in a unit of their size."""
    if count is None:
        return text.NONE
    value, unit = float(count), 0
    while value >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} {_UNITS[unit]}" if unit == 0 or value >= 99.5 else f"{value:.1f} {_UNITS[unit]}"


def _health() -> None:
    status, samples = data.status(), data.metrics()
    ready = data.ready()
    failing = health.total(samples, "lastword_store_failing")
    if failing:
        st.markdown(
            ":red-badge[✕ cannot store] The last commit failed: nothing is lost, senders keep what they have and try again. The collector's log says why."
        )
    elif not ready:
        st.markdown(":orange-badge[◐ draining] The collector takes nothing new: it is being stopped.")
    else:
        st.markdown(":green-badge[✓ takes and stores data]")
    commit_ms = health.mean_ms(samples, "lastword_commit_seconds")
    newest = status.newest(filters.now())
    figures = (
        (
            "Ingest lag",
            text.duration(status.ingest_lag_ms),
            "From the arrival of a row until it can be queried, by the last commit.",
        ),
        ("Queue", text.count(status.queue_depth), "Rows that wait for a commit. At the limit, senders are told to come back."),
        ("Mean commit", text.duration(commit_ms), "Since the collector started."),
        (
            "Not published",
            text.count(health.total(samples, "lastword_hot_rows")),
            "Rows that are in the live store and not yet in the catalog's files.",
        ),
        ("Newest turn", text.ago(newest, filters.now()) if newest else text.NONE, "When the newest stored turn ended."),
    )
    with st.grid(5, min_column_width=_CARD_PX, gap="small"):
        for label, value, meaning in figures:
            st.metric(label, value, border=True, help=meaning)
    since = f" · started {text.ago(status.started_at, filters.now())}" if status.started_at else ""
    st.caption(f"Version {status.version or text.NONE}{since}. Lag, queue and files are of now, whatever the window.")


def _troubles() -> None:
    found = health.troubles(data.metrics())
    st.caption("Since the collector started. Anything but 0 is worth a look.")
    rows = [
        (
            each.what,
            text.count(each.count),
            each.means if each.count else "",
            "error" if each.lost else "partial",
            bool(each.count),
        )
        for each in found
    ]
    show(markup.trouble_table(rows), key="trouble-list")


def _gaps() -> None:
    view = filters.current_view()
    row = data.fetch_view("gaps", view).rows[0]
    if not row["turns"]:
        raise window.no_turns(view)
    st.caption(
        f"Of {text.plural(row['turns'], 'turn')} in the {view.label}; {text.plural(row['open_now'], 'turn')} running now."
    )
    gaps = (
        ("turns lost", row["lost"], "Accepted, and no terminal came in time. They count as broken.", "error"),
        (
            "turns closed by recovery",
            row["recovered"],
            "Their process ended before them; another one wrote the terminal.",
            "partial",
        ),
        (
            "records without a trace",
            row["without_trace"],
            "No span came: sampled, lost, or not sent. Figures are whole, the waterfall is not.",
            "partial",
        ),
        (
            "turns known by spans alone",
            row["of_spans"],
            "Their service sends no records; what spans do not say is not known.",
            "partial",
        ),
    )
    rows = [
        (what, f"{count:,} ({text.share(count / row['turns'])})" if count else "0", means if count else "", tone, bool(count))
        for what, count, means, tone in gaps
    ]
    show(markup.trouble_table(rows), key="gap-list")


def _received() -> None:
    view = filters.current_view()
    rows = data.fetch_view("received", view).rows
    if not rows:
        raise window.no_turns(view)
    st.caption(
        f"Turns by their end and spans by their beginning, in steps of {window.step_said(view)}; each on a scale of its own. A gap is a time without data."
    )
    for kind, column in zip(pipeline.KINDS, st.columns(len(pipeline.KINDS), gap="medium"), strict=True):
        with column:
            st.markdown(f"**{kind.capitalize()}**")
            panels.chart(pipeline.received(rows, view, kind, window.colours(), filters.zone()), f"received-{kind}")


def _violations() -> None:
    view = filters.current_view()
    rows = data.fetch_view("violations", view, {"limit": settings().max_places}).rows
    if not rows:
        raise Empty(f"**No turn of the {view.label} breaks the contract**, as far as records and traces tell.")
    listed = [
        {
            "Rule": row["rule"],
            "Places": text.count(row["places"]),
            "Turns": text.count(row["turns"]),
            "For example": text.clipped(row["detail"] or "", 90),
        }
        for row in rows
    ]
    links = [markup.page_link("turn", {"id": row["turn_id"], **filters.kept()}, row["rule"]) for row in rows]
    window.follow(markup.link_table(listed, links), "violation-list")


def _stored() -> None:
    samples, status = data.metrics(), data.status()
    span = data.fetch("span_of_data", {}).rows[0]
    if not span["turns"]:
        raise Empty("**Nothing is stored yet.** Send some traffic:", DEMO)
    rows = [
        {"What": "Turns", "Now": text.count(span["turns"])},
        {"What": "Spans", "Now": text.count(status.spans)},
        {"What": "Oldest turn", "Now": text.ago(span["oldest"], filters.now())},
        {"What": "Files that count", "Now": text.count(health.total(samples, "lastword_segments"))},
        {"What": "Their size", "Now": size(health.total(samples, "lastword_segment_bytes"))},
        {"What": "Rows removed by retention since the start", "Now": text.count(health.total(samples, "lastword_pruned_rows"))},
    ]
    show(markup.table(rows), key="stored-list")
