"""Episodes of alerts over time: a row per series, a bar from when it began to break until it was over."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from dashboard import text
from dashboard.charts.base import Chart, Row, Spec, rows_axis, shared, time_axis, tooltip, top_level, values
from dashboard.palette import Palette
from dashboard.state import View

NO_VALUE = "(none)"
ROW_PX = 28
PICKED = "episode"
"""The name of the selection that a click on an episode makes; it holds `alert_id`."""


def named(value: str | None) -> str | None:
    """A route or tier as filters name it: a series without one watches all, and the empty one watches turns that have none."""
    return NO_VALUE if value == "" else value


def series_said(row: Row) -> str:
    """The series of an alert in words: its rule, and the route and tier that it watches."""
    places = (("route", named(row["route"])), ("tier", named(row["model_tier"])))
    place = ", ".join(f"{word} {value}" for word, value in places if value)
    return f"{row['rule']}: {place}" if place else str(row["rule"]) if row["scope"] == "query" else f"{row['rule']}: all turns"


def timeline(rows: Sequence[Row], view: View, now: datetime, palette: Palette, tz: tzinfo) -> Chart:
    """From rows of `alerts.sql`. A page is filled, a ticket is hollow; the row of what still fires says so.

    Returns:
        A chart whose selection `episode` holds an `alert_id`.
    """
    drawn: list[Row] = []
    for row in rows:
        end = row["resolved_at"] or now
        start_ms, end_ms = (round(at.timestamp() * 1000) for at in (row["since_at"], end))
        firing = row["resolved_at"] is None
        drawn.append(
            {
                "alert_id": row["alert_id"],
                "series": series_said(row),
                "start_ms": max(start_ms, view.start_ms),
                "end_ms": max(min(end_ms, view.end_ms), max(start_ms, view.start_ms) + (view.end_ms - view.start_ms) // 250),
                "page": row["severity"] == "page",
                "firing": firing,
                "severity": row["severity"],
                "when": f"{_clock(start_ms, tz)} to {'now' if firing else _clock(end_ms, tz)}",
                "took": text.duration(end_ms - start_ms),
                "summary": row["summary"] or "",
            }
        )
    fires = {row["series"] for row in drawn if row["firing"]}
    for row in drawn:
        row["label"] = f"{row['series']} (firing)" if row["series"] in fires else row["series"]
    order = list(dict.fromkeys(row["label"] for row in drawn))
    x = time_axis(view.start_ms, view.end_ms)
    y = rows_axis("label", order, label_px=260, grid=True)
    tips = tooltip(
        ("series", "Series"), ("severity", "Severity"), ("when", "Episode"), ("took", "Length"), ("summary", "What happened")
    )
    ends = [{"start_ms": at, "label": order[0]} for at in (view.start_ms, view.end_ms)] if order else []
    layers: list[Spec] = [
        {"data": values(ends), "mark": {"type": "point", "opacity": 0, "tooltip": False}, "encoding": {"x": x, "y": y}},
        {
            "mark": {
                "type": "bar",
                "height": 14,
                "cornerRadius": 3,
                "stroke": palette.error,
                "strokeWidth": 1.5,
                "cursor": "pointer",
            },
            "params": [{"name": PICKED, "select": {"type": "point", "fields": ["alert_id"], "toggle": False}}],
            "encoding": {
                "x": shared(x),
                "x2": {"field": "end_ms"},
                "y": y,
                "color": {"condition": {"test": "datum.page", "value": palette.error}, "value": palette.ground},
                "opacity": {"condition": {"test": "datum.firing", "value": 1}, "value": 0.6},
                "tooltip": tips,
            },
        },
    ]
    spec = top_level({"data": values(drawn), "layer": layers}, height=max(1, len(order)) * ROW_PX)
    reading = [
        {
            "Series": row["series"],
            "Severity": row["severity"],
            "Episode": row["when"],
            "Length": row["took"],
            "What happened": row["summary"],
        }
        for row in drawn
    ]
    still = sum(row["firing"] for row in drawn)
    alt = f"{text.plural(len(drawn), 'episode')} of {text.plural(len(order), 'series', 'series')}; {still} still firing."
    return Chart(spec, alt if drawn else "No episode in this window.", reading)


def _clock(ms: int, tz: tzinfo) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC).astimezone(tz):%d %b %H:%M}"
