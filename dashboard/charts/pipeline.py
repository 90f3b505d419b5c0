"""What the collector received over time: turns and spans, each on a scale of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from dashboard.charts.base import Chart, Row, Spec, shared, time_axis, tooltip, top_level, values
from dashboard.palette import Palette
from dashboard.state import View

HEIGHT_PX = 110
KINDS = ("turns", "spans")


def received(rows: Sequence[Row], view: View, kind: str, palette: Palette, tz: tzinfo) -> Chart:
    """From rows of `received.sql`: how many `turns` or `spans` there are by time bucket. A bucket without any has no bar."""
    drawn: list[Row] = []
    for row in rows:
        if row[kind]:
            start_ms = view.start_ms + row["bucket"] * view.bucket_ms
            end_ms = start_ms + view.bucket_ms
            first, last = (datetime.fromtimestamp(ms / 1000, UTC).astimezone(tz) for ms in (start_ms, end_ms))
            drawn.append(
                {
                    "start_ms": start_ms,
                    "end_ms": end_ms,
                    "zero": 0,
                    "count": row[kind],
                    "when": f"{first:%d %b %H:%M:%S} to {last:%H:%M:%S}",
                    "said": f"{row[kind]:,} ({row[kind] / (view.bucket_ms / 1000):.3g} a second)",
                }
            )
    x = time_axis(view.start_ms, view.end_ms, ticks=6)
    y: Spec = {"type": "quantitative", "axis": {"title": None, "tickCount": 3, "format": "~s"}}
    ends = [{"start_ms": view.start_ms, "zero": 0}, {"start_ms": view.end_ms, "zero": 0}]
    colour = palette.accent if kind == "turns" else palette.phases["turn"]
    layers: list[Spec] = [
        {
            "data": values(ends),
            "mark": {"type": "point", "opacity": 0, "tooltip": False},
            "encoding": {"x": x, "y": {**y, "field": "zero"}},
        },
        {
            "data": values(drawn),
            "mark": {"type": "rect", "color": colour, "opacity": 0.8},
            "encoding": {
                "x": shared(x),
                "x2": {"field": "end_ms"},
                "y": {**shared(y), "field": "count"},
                "y2": {"field": "zero"},
                "tooltip": tooltip(("when", "Between"), ("said", kind.capitalize())),
            },
        },
    ]
    spec = top_level({"layer": layers}, height=HEIGHT_PX)
    reading = [{"Between": row["when"], kind.capitalize(): row["said"]} for row in drawn]
    total = sum(row["count"] for row in drawn)
    if not drawn:
        return Chart(spec, f"No {kind} in this window.", reading)
    most = max(drawn, key=lambda row: row["count"])
    return Chart(spec, f"{total:,} {kind}; most between {most['when']}: {most['said']}.", reading)
