"""The automatic chart of a query's result: a line over time, or a bar per row."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

from dashboard import results
from dashboard.charts.base import Chart, Row, Spec, time_axis, tooltip, top_level, values
from dashboard.palette import Palette
from dashboard.results import Picture

LINE_HEIGHT_PX = 190
ROW_PX = 24


def chart(rows: list[Row], picture: Picture, palette: Palette) -> Chart:
    """Draws `y` over `x` of the rows; rows without a figure are left out."""
    shown = [row for row in rows if row[picture.x] is not None and row[picture.y] is not None]
    reading = [{picture.x: results.said(row[picture.x]), picture.y: results.said(row[picture.y])} for row in shown]
    spec = _over_time(shown, picture, palette) if picture.over_time else _bars(shown, picture, palette)
    return Chart(spec, _alt(reading, shown, picture), reading)


def _drawn(row: Row, picture: Picture) -> Row:
    return {"y": float(row[picture.y]), "x_said": results.said(row[picture.x]), "y_said": results.said(row[picture.y])}


def _over_time(rows: list[Row], picture: Picture, palette: Palette) -> Spec:
    drawn = sorted(({**_drawn(row, picture), "start_ms": _ms(row[picture.x])} for row in rows), key=lambda row: row["start_ms"])
    x = time_axis(drawn[0]["start_ms"], drawn[-1]["start_ms"]) if drawn else time_axis(0, 1)
    y: Spec = {"field": "y", "type": "quantitative", "axis": {"title": picture.y, "tickCount": 4, "format": "~s"}}
    layer = {
        "mark": {"type": "line", "color": palette.accent, "strokeWidth": 1.8, "point": {"size": 26, "color": palette.accent}},
        "encoding": {"x": x, "y": y, "tooltip": tooltip(("x_said", picture.x), ("y_said", picture.y))},
    }
    return top_level({"data": values(drawn), "layer": [layer]}, height=LINE_HEIGHT_PX)


def _ms(value: date | datetime) -> int:
    moment = value if isinstance(value, datetime) else datetime.combine(value, time(), UTC)
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _bars(rows: list[Row], picture: Picture, palette: Palette) -> Spec:
    drawn: list[Row] = [
        {**_drawn(row, picture), "row": f"{place} {row[picture.x]}", "zero": 0} for place, row in enumerate(rows)
    ]
    most = max((abs(row["y"]) for row in drawn), default=1.0) or 1.0
    low = min([0.0, *(row["y"] for row in drawn)])
    x: Spec = {
        "field": "zero",
        "type": "quantitative",
        "axis": None,
        "scale": {"domain": [low * 1.1, most * 1.25], "nice": False},
    }
    y: Spec = {
        "field": "row",
        "type": "nominal",
        "sort": [row["row"] for row in drawn],
        "axis": {
            "title": None,
            "ticks": False,
            "domain": False,
            "labelLimit": 260,
            "labelPadding": 8,
            # The number in front keeps rows of one name apart, and is not shown.
            "labelExpr": "slice(datum.value, indexof(datum.value, ' ') + 1)",
        },
    }
    tips = tooltip(("x_said", picture.x), ("y_said", picture.y))
    layers: list[Any] = [
        {
            "mark": {"type": "bar", "height": 13, "color": palette.accent, "opacity": 0.85, "cornerRadiusEnd": 2},
            "encoding": {"x": x, "x2": {"field": "y"}, "y": y, "tooltip": tips},
        },
        {
            "mark": {"type": "text", "align": "left", "baseline": "middle", "dx": 6, "fontSize": 12, "color": palette.text},
            "encoding": {"x": {**x, "field": "y"}, "y": y, "text": {"field": "y_said"}},
        },
    ]
    return top_level({"data": values(drawn), "layer": layers}, height=max(1, len(drawn)) * ROW_PX)


def _alt(reading: list[Row], rows: list[Row], picture: Picture) -> str:
    if not rows:
        return f"{picture.y} has no figure in any row."
    most = max(range(len(rows)), key=lambda place: float(rows[place][picture.y]))
    return f"{picture.y} over {picture.x}, {len(rows):,} rows; the highest is {reading[most][picture.y]} at {reading[most][picture.x]}."
