"""Alerts: what fired, and was it right?

What fires now, the episodes of the window, one episode with its evidence, explanation and deliveries, and what the detector cannot see. The chosen episode stands in
the URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec
import streamlit as st
from msgspec import Struct

from dashboard import data, filters, markup, nav, panels, state, text, url
from dashboard.charts import alerts
from dashboard.components import linked_html, show
from dashboard.panels import Empty
from dashboard.settings import settings
from dashboard.views import window

Row = Mapping[str, Any]

ALERT = "alert"
_PICKED = "_picked"
_BEFORE, _AFTER = timedelta(minutes=30), timedelta(minutes=15)
"""The link to Partials shows so much around the episode, as the alert's own message does: a spike is seen against what was before it."""


class Slice(Struct, frozen=True, kw_only=True):
    """A slice of an explanation, as `lastword.explain` ranks it."""

    attributes: dict[str, str]
    turns: int
    broken: int
    rate: float
    usual: float


class Shift(Struct, frozen=True, kw_only=True):
    """How often turns broke for a reason, and how often it would be usual."""

    reason: str
    broken: int
    expected: float


class Trace(Struct, frozen=True, kw_only=True):
    """A turn to look at."""

    turn_id: str
    trace_id: str | None = None
    route: str | None = None
    reason: str | None = None


class Explanation(Struct, frozen=True, kw_only=True):
    """What was different when an alert fired."""

    slices: list[Slice] = []
    reasons: list[Shift] = []
    traces: list[Trace] = []


def page() -> None:
    """Draws the page."""
    refresh_s = window.head("What fired, and was it right?", narrowing=False)
    live_s = settings().refresh_s  # what fires now is of now, whatever the window
    panels.panel("firing", "Firing now", _firing, height_px=120, refresh_s=live_s)
    panels.panel("episodes", "Episodes", _episodes, height_px=200, refresh_s=refresh_s)
    if url.get(ALERT):
        panels.panel("episode", "", _episode, height_px=420)
    left, right = st.columns(2, gap="large")
    with left:
        panels.panel("deliveries", "Deliveries", _deliveries, height_px=140, refresh_s=refresh_s)
    with right:
        panels.panel("silences", "Silences", _silences, height_px=140, refresh_s=live_s)
    panels.panel("blind", "What cannot be seen", _blind, height_px=260, refresh_s=live_s)


def _rows() -> list[dict[str, Any]]:
    return data.fetch_view("alerts", filters.current_view(), {"limit": settings().max_alerts}).rows


# --- what fires


def _firing() -> None:
    firing = [row for row in _rows() if row["state"] == "firing"]
    if not firing:
        raise _quiet()
    for row in sorted(firing, key=lambda row: (row["role"] != "root", row["severity"] != "page", row["fired_at"])):
        with st.container(border=True, gap="xsmall", key=f"firing-{row['alert_id']}"):
            show(
                markup.alert_head(_badges(row), alerts.series_said(row), row["summary"] or ""),
                key=f"firing-head-{row['alert_id']}",
            )
            with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
                st.caption(f"since {_ago(row['since_at'])}, fired {_ago(row['fired_at'])}", width="content")
                _to_partials(row)
                if st.button("Why, and who was told", key=f"why-{row['alert_id']}", type="tertiary", icon=":material/info:"):
                    url.put({ALERT: row["alert_id"]})
                    st.rerun()


def _quiet() -> Empty:
    """Why nothing fires: all is well, or nothing is judged."""
    series = data.fetch("alert_series", {"limit": settings().max_series}).rows
    judged = [row["minute"] for row in series if row["minute"] is not None]
    if not judged:
        return Empty("**Nothing is judged yet.** The collector judges each minute shortly after it ends, once there are turns.")
    without = sum(row["state"] == "no_data" for row in series)
    more = f" {text.plural(without, 'series has', 'series have')} no data." if without else ""
    return Empty(
        f"**Nothing fires.** {text.plural(len(series), 'series is', 'series are')} watched; the last minute was judged {_ago(max(judged))}.{more}"
    )


def _badges(row: Row) -> list[str]:
    firing = row["state"] == "firing"
    tone = ("error" if row["severity"] == "page" else "partial") if firing else "good"
    badges = [markup.badge("firing" if firing else row["why_resolved"] or "resolved", tone), markup.tag(row["severity"])]
    return badges + ([markup.tag("symptom of another")] if row["role"] == "symptom" else [])


def _ago(at: datetime) -> str:
    return text.ago(at, filters.now())


def _to_partials(row: Row) -> None:
    """A link to the turns of the episode, with some time around it."""
    first, last = row["since_at"] - _BEFORE, (row["resolved_at"] or filters.now()) + _AFTER
    start, end = state.write_custom(first.timestamp() * 1000, min(last, filters.now()).timestamp() * 1000)
    query = {filters.WINDOW: state.CUSTOM, filters.FROM: start, filters.TO: end}
    places = ((filters.ROUTE, alerts.named(row["route"])), (filters.TIER, alerts.named(row["model_tier"])))
    query |= {name: value for name, value in places if value}
    st.page_link(
        nav.page(nav.PARTIALS),
        label="The turns that broke",
        icon=":material/arrow_forward:",
        query_params=query,
        width="content",
    )


# --- episodes


def _episodes() -> None:
    view, rows = filters.current_view(), _rows()
    if not rows:
        raise Empty(
            f"**No episode in the {view.label}.** `lastword alerts replay` says what would have fired on the stored turns."
        )
    st.caption(
        "Filled: pages somebody. Hollow: a ticket. From when turns began to break until it was over. Choose an episode for its evidence."
    )
    drawn = alerts.timeline(rows, view, filters.now(), window.colours(), filters.zone())
    key = f"episodes-{view.start_ms}-{view.end_ms}"
    panels.chart(drawn, key, on_select=lambda: _picked(key), under=False)
    listed = [
        {
            "Series": alerts.series_said(row),
            "State": "firing" if row["state"] == "firing" else row["why_resolved"] or "resolved",
            "Since": text.clock(row["since_at"], filters.zone(), filters.now()),
            "Length": text.duration(((row["resolved_at"] or filters.now()) - row["since_at"]).total_seconds() * 1000),
            "Partial turns": _counts(row),
            "Usual": text.share(row["baseline"]),
            "Evidence": _evidence(row),
        }
        for row in rows
    ]
    links = [
        markup.page_link(nav.ALERTS, {**filters.kept(), ALERT: row["alert_id"]}, str(each["Series"]))
        for row, each in zip(rows, listed, strict=True)
    ]
    opened = linked_html(markup.link_table(listed, links), key="episode-list")
    if opened:
        nav.follow(opened, filters.kept())
    if len(rows) == settings().max_alerts:
        st.caption(f"The newest {settings().max_alerts}; a shorter window shows the others.")
    if st.session_state.pop(_PICKED, False):
        st.rerun()


def _picked(key: str) -> None:
    picked = st.session_state[panels.chart_key(key)].selection.get(alerts.PICKED) or []
    if picked and picked[0].get("alert_id"):
        url.put({ALERT: str(picked[0]["alert_id"])})
        st.session_state[_PICKED] = True


def _counts(row: Row) -> str:
    return text.NONE if row["turns"] is None else f"{text.share(row['rate'])} ({row['broken'] or 0:,} of {row['turns']:,})"


def _evidence(row: Row) -> str:
    measured = row["evidence"] if row["evidence"] is not None else row["value"]
    return text.NONE if measured is None or row["threshold"] is None else f"{measured:.3g} of {row['threshold']:.3g}"


# --- one episode


def _episode() -> None:
    alert_id = url.get(ALERT)
    found = data.fetch("alert", {"alert_id": alert_id}).rows
    if not found:
        raise Empty(f"**No alert `{text.clipped(alert_id, 60)}` is stored.**")
    row = found[0]
    show(markup.alert_head(_badges(row), alerts.series_said(row), row["summary"] or "", level=2), key="episode-head")
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        since = text.moment(row["since_at"], filters.zone())
        ended = f", over {text.moment(row['resolved_at'], filters.zone())}" if row["resolved_at"] else ""
        st.caption(
            f"Since {since}; fired {text.duration((row['fired_at'] - row['since_at']).total_seconds() * 1000)} later{ended}",
            width="content",
        )
        _to_partials(row)
        if st.button("Close", key="close-episode", icon=":material/close:", type="tertiary"):
            url.put({ALERT: None})
            st.rerun()
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("### Evidence against threshold", anchors=False)
        _measured(row)
        st.markdown("### Who was told", anchors=False)
        _told(row)
    with right:
        _explained(row)


def _measured(row: Row) -> None:
    measured = row["evidence"] if row["evidence"] is not None else row["value"]
    unit = " nats" if row["evidence"] is not None else ""
    if measured is not None and row["threshold"]:
        show(markup.meter(measured, row["threshold"], unit), key="episode-meter")
    expected = text.NONE if row["expected"] is None else f"{row['expected']:.1f}"
    interval = text.NONE if row["rate_low"] is None else f"{text.share(row['rate_low'])} to {text.share(row['rate_high'])}"
    facts = (
        ("Window that told it", f"{row['window_minutes']} min" if row["window_minutes"] else text.NONE),
        ("Counted", _counts(row)),
        ("95% interval", interval),
        ("Would be usual", f"{expected} turns, {text.share(row['baseline'])}"),
        ("Is over below", text.share(row["recovers_below"])),
    )
    show(markup.table([{"What": what, "Value": value} for what, value in facts]), key="episode-facts")


def _told(row: Row) -> None:
    rows = data.fetch("alert_told", {"alert_id": row["alert_id"], "limit": settings().max_series}).rows
    if not rows:
        st.caption("No event of this alert is stored.")
        return
    tones = {"delivered": "good", "waiting": "partial", "dead": "error", "silenced": "left"}
    told = [
        (
            text.clock(each["happened_at"], filters.zone(), filters.now()),
            f"{each['change']}: {each['receiver'] or 'nobody was to be told'}",
            _delivery(each),
            tones.get(each["state"] or "", ""),
        )
        for each in rows
    ]
    show(markup.timeline(told), key="episode-told")


def _delivery(each: Row) -> str:
    if each["state"] is None:
        return ""
    tries = f" after {text.plural(each['attempts'], 'try', 'tries')}" if each["attempts"] and each["attempts"] > 1 else ""
    return f"{each['state']}{tries}" + (
        f": {text.clipped(each['error'], 120)}" if each["error"] and each["state"] != "delivered" else ""
    )


def _explained(row: Row) -> None:
    st.markdown("### What was different", anchors=False)
    if not row["explanation"]:
        st.caption("This alert has no explanation: it is a symptom of another, or a rule of SQL.")
        return
    explained = msgspec.json.decode(row["explanation"], type=Explanation)
    if explained.slices:
        slices = [
            {**msgspec.structs.asdict(each), "attributes": msgspec.json.encode(each.attributes).decode()}
            for each in explained.slices
        ]
        window.slices(slices, "Partial rate", {filters.PICK: "broken", **_window_of(row)}, "episode-slices", compare=True)
    else:
        st.caption("No slice stood out: turns broke all over.")
    if explained.reasons:
        shifts = [
            {"Reason": each.reason, "Broken turns": text.count(each.broken), "Would be usual": f"{each.expected:.1f}"}
            for each in explained.reasons
        ]
        show(markup.table(shifts), key="episode-reasons")
    if explained.traces:
        st.markdown("### Turns to look at", anchors=False)
        listed = [
            {"Turn": each.turn_id, "Route": each.route or text.NONE, "Reason": each.reason or text.NONE}
            for each in explained.traces
        ]
        links = [
            markup.page_link(nav.TURN, {"id": each.turn_id, **filters.kept()}, text.short_id(each.turn_id))
            for each in explained.traces
        ]
        window.follow(markup.link_table(listed, links), "episode-traces")


def _window_of(row: Row) -> dict[str, str]:
    first, last = row["since_at"] - _BEFORE, (row["resolved_at"] or filters.now()) + _AFTER
    start, end = state.write_custom(first.timestamp() * 1000, last.timestamp() * 1000)
    return {filters.WINDOW: state.CUSTOM, filters.FROM: start, filters.TO: end}


# --- who was told, who is not to be, and what cannot be seen


def _deliveries() -> None:
    view = filters.current_view()
    rows = data.fetch_view("alert_deliveries", view).rows
    if not rows:
        raise Empty(
            f"**Nobody was told anything in the {view.label}.** Nothing fired, or no receiver is set (`lastword alerts test`)."
        )
    st.caption(f"Queued in the {view.label}, and what waits still. Dead: given up, nobody was told.")
    tones = {"delivered": "good", "waiting": "partial", "dead": "error", "silenced": "left"}
    listed = [
        (
            f"{row['receiver']}: {row['state']}",
            text.count(row["deliveries"]),
            text.clipped(row["last_error"] or "", 160) if row["state"] in {"waiting", "dead"} else "",
            tones.get(row["state"], "error"),
            True,
        )
        for row in rows
    ]
    show(markup.trouble_table(listed), key="delivery-list")


def _silences() -> None:
    rows = data.fetch("alert_silences", {"limit": settings().max_series}).rows
    if not rows:
        raise Empty("**Nothing is silenced.** `lastword alerts silence --route NAME --for 2h` would.")
    listed = [
        {
            "Rule": row["rule"] or "all",
            "Route": row["route"] or "all",
            "Tier": row["model_tier"] or "all",
            "Until": text.clock(row["ends_at"], filters.zone(), filters.now()),
            "Why": row["comment"] or text.NONE,
        }
        for row in rows
    ]
    show(markup.table(listed), key="silence-list")


def _blind() -> None:
    rows = data.fetch("alert_series", {"limit": settings().max_series}).rows
    if not rows:
        raise Empty("**Nothing is judged yet.** The collector judges each minute shortly after it ends, once there are turns.")
    st.caption(
        "The smallest multiple of its usual rate that a series would show within 15 minutes and within an hour, at the traffic of the last hour. "
        "Blind: not even that, if every turn broke. The blindest first; more traffic sees more."
    )
    listed = [
        {
            "Series": alerts.series_said(row),
            "Turns in an hour": text.count(row["turns"]),
            "Usual rate": text.share(row["baseline"]),
            "Within 15 min": _multiple(row, "visible_15"),
            "Within an hour": _multiple(row, "visible_60"),
            "Evidence now": _evidence({**row, "value": None}),
            "State": {"no_data": "no data"}.get(row["state"], row["state"]),
        }
        for row in rows
    ]
    show(markup.table(listed, figures=("Within 15 min", "Within an hour")), key="blind-list")
    if len(rows) == settings().max_series:
        st.caption(f"The {settings().max_series} blindest series; the SQL page has all, in alert_series.")


def _multiple(row: Row, name: str) -> str:
    if row[name] is not None:
        return f"{row[name]:.1f}×"
    return "blind" if row["turns"] is not None and row["baseline"] is not None else text.NONE
