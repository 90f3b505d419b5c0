"""How long stages take over time: each against its own usual, every turn of one stage, and what share of all time each has."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo
from math import log2
from statistics import median

from dashboard import stats, text
from dashboard.charts.base import Chart, Row, Spec, drag, rows_axis, shared, time_axis, tooltip, top_level, values
from dashboard.palette import Palette
from dashboard.stages import LABELS, PHASES
from dashboard.state import View

BOX = "box"
"""The name of the selection that a drag over the heat map makes."""
CELL = "cell"
"""The name of the selection that a click on the matrix makes."""
MATRIX_ROW_PX = 26
HEAT_HEIGHT_PX = 300
SHARE_ROW_PX = 34
MOST_COLUMNS = 48
_LEAST, _MOST = -1.0, 2.0
"""Ends of the scale of the matrix, in octaves: half and four times the usual."""
QUIET_MS = 5.0
"""Less counts as so much: a stage that goes from one millisecond to two is no news."""
_LABELLED = 0.07
"""A segment of at least so much of a bar has room for its name."""
UNACCOUNTED = "unaccounted"


def _clock(ms: float, tz: tzinfo) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC).astimezone(tz):%d %b %H:%M:%S}"


def _span(view: View, bucket: int, step_ms: int, tz: tzinfo) -> Row:
    start_ms = view.start_ms + bucket * step_ms
    end_ms = min(start_ms + step_ms, view.end_ms)
    return {"start_ms": start_ms, "end_ms": end_ms, "when": f"{_clock(start_ms, tz)} to {_clock(end_ms, tz)}"}


def matrix(rows: Sequence[Row], view: View, step_ms: int, palette: Palette, tz: tzinfo) -> Chart:
    """From rows of `stage_matrix.sql`: p95 by stage and step against the stage's usual p95, which is the median of its steps in this window and the one before.

    Returns:
        A chart whose selection `cell` holds the column of a stage.
    """
    labels = [label for column, label in LABELS.items() if any(row["stage"] == column for row in rows)]
    drawn: list[Row] = []
    for column, label in LABELS.items():
        own = [row for row in rows if row["stage"] == column]
        trusted = [row["p95_ms"] for row in own if row["turns"] >= stats.FEW_TURNS] or [row["p95_ms"] for row in own]
        usual = median(trusted) if trusted else QUIET_MS
        for row in own:
            if row["bucket"] >= 0:
                ratio = max(row["p95_ms"], QUIET_MS) / max(usual, QUIET_MS)
                drawn.append(
                    {
                        **_span(view, row["bucket"], step_ms, tz),
                        "column": column,
                        "label": label,
                        "octaves": min(max(log2(ratio), _LEAST), _MOST),
                        "ratio": ratio,
                        "thin": row["turns"] < stats.FEW_TURNS,
                        "ratio_said": f"{ratio:.1f}×",
                        "p95_said": text.duration(row["p95_ms"]),
                        "usual_said": text.duration(usual),
                        "of": text.plural(row["turns"], "turn")
                        + (" (few: may be chance)" if row["turns"] < stats.FEW_TURNS else ""),
                    }
                )
    x = time_axis(view.start_ms, view.end_ms)
    y = rows_axis("label", labels, label_px=160)
    colour: Spec = {
        "field": "octaves",
        "type": "quantitative",
        "scale": {"domain": [_LEAST, 0, 1, _MOST], "range": list(palette.heat_against), "interpolate": "rgb"},
        "legend": {
            "title": "p95 ÷ usual",
            "values": [-1, 0, 1, 2],
            "labelExpr": "datum.value < 0 ? '½×' : datum.value == 0 ? '1×' : datum.value == 1 ? '2×' : '4×'",
            "gradientLength": 150,
        },
    }
    tips = tooltip(
        ("when", "Ended"),
        ("label", "Stage"),
        ("p95_said", "p95"),
        ("usual_said", "Usual"),
        ("ratio_said", "Times"),
        ("of", "Turns"),
    )
    ends = [{"start_ms": view.start_ms, "label": labels[0]}, {"start_ms": view.end_ms, "label": labels[0]}] if labels else []
    layers: list[Spec] = [
        {"data": values(ends), "mark": {"type": "point", "opacity": 0, "tooltip": False}, "encoding": {"x": x, "y": y}},
        {
            "mark": {"type": "rect", "stroke": palette.ground, "strokeWidth": 1.5, "cursor": "pointer"},
            "params": [{"name": CELL, "select": {"type": "point", "fields": ["column"], "toggle": False}}],
            "encoding": {
                "x": shared(x),
                "x2": {"field": "end_ms"},
                "y": y,
                "color": colour,
                "opacity": {"condition": {"test": "datum.thin", "value": 0.35}, "value": 1},
                "tooltip": tips,
            },
        },
    ]
    spec = top_level({"data": values(drawn), "layer": layers}, height=max(1, len(labels)) * MATRIX_ROW_PX)
    reading = [
        {
            "Ended": row["when"],
            "Stage": row["label"],
            "p95": row["p95_said"],
            "Usual": row["usual_said"],
            "Times": row["ratio_said"],
            "Turns": row["of"],
        }
        for row in drawn
    ]
    return Chart(
        spec,
        _matrix_alt(drawn),
        [row for row, cell in zip(reading, drawn, strict=True) if abs(log2(cell["ratio"])) >= 0.5] or reading[-len(labels) :],
    )


def _matrix_alt(drawn: Sequence[Row]) -> str:
    trusted = [row for row in drawn if not row["thin"]]
    if not trusted:
        return f"No step holds {stats.FEW_TURNS} turns or more of any stage, so single steps say little."
    worst = max(trusted, key=lambda row: row["ratio"])
    slow = {row["label"] for row in trusted if row["ratio"] >= 2}
    named = f" At twice the usual or more: {', '.join(sorted(slow))}." if slow else " No stage reached twice its usual."
    return f"Furthest above its usual: {worst['label']}, p95 {worst['p95_said']} against {worst['usual_said']}, in the step from {worst['when']}.{named}"


def heat(
    rows: Sequence[Row], view: View, step_ms: int, palette: Palette, tz: tzinfo, box: tuple[int, int, int, int] | None = None
) -> Chart:
    """From rows of `stage_heat.sql`: how many turns took how long, by step and quarter of an octave, with p50, p95 and p99 as lines. `box` is outlined: start, end, least, most.

    Returns:
        A chart whose selection `box` is an interval of `start_ms` and of `low`, in milliseconds.
    """
    cells = [_cell(row, view, step_ms, tz) for row in rows if row["size"] is not None]
    steps = [row for row in rows if row["size"] is None and row["bucket"] is not None]
    lines: list[Row] = []
    for row in steps:
        for name in ("p50", "p95", "p99"):
            middle_ms = view.start_ms + (row["bucket"] + 0.5) * step_ms
            lines.append(
                {
                    "start_ms": middle_ms,
                    "low": max(row[f"{name}_ms"], 0.7),
                    "quantile": name,
                    "said": text.duration(row[f"{name}_ms"]),
                }
            )
    low, high = min((cell["low"] for cell in cells), default=1.0), max((cell["high"] for cell in cells), default=1000.0)
    x = time_axis(view.start_ms, view.end_ms, ticks=6)
    y: Spec = {
        "field": "low",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {
            "title": None,
            "values": [
                tick for tick in (1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000, 300_000) if low <= tick <= high
            ],
            "labelExpr": "datum.value < 1000 ? datum.value + ' ms' : datum.value / 1000 + ' s'",
        },
    }
    most = max((cell["turns"] for cell in cells), default=1)
    colour: Spec = {
        "field": "turns",
        "type": "quantitative",
        "scale": {"type": "sqrt", "domain": [0, most], "range": list(palette.heat)},
        "legend": {"title": "turns", "gradientLength": 120, "tickCount": 3, "format": "d"},
    }
    ends = [{"start_ms": view.start_ms, "low": low}, {"start_ms": view.end_ms, "low": low}]
    line: Spec = {
        "x": shared(x),
        "y": shared(y),
        "strokeDash": {
            "field": "quantile",
            "type": "nominal",
            "scale": {"domain": ["p50", "p95", "p99"], "range": [[1, 0], [5, 3], [1, 3]]},
            "legend": {"title": None, "orient": "bottom", "symbolStrokeColor": palette.text},
        },
        "tooltip": tooltip(("quantile", "Quantile"), ("said", "Time")),
    }
    layers: list[Spec] = [
        {"data": values(ends), "mark": {"type": "point", "opacity": 0, "tooltip": False}, "encoding": {"x": x, "y": y}},
        {
            "data": values(cells),
            "mark": {"type": "rect"},
            "params": [drag(BOX, ["x", "y"], palette)],
            "encoding": {
                "x": shared(x),
                "x2": {"field": "end_ms"},
                "y": shared(y),
                "y2": {"field": "high"},
                "color": colour,
                "tooltip": tooltip(("when", "Ended"), ("size", "Time"), ("said", "Turns")),
            },
        },
        {
            "data": values(lines),
            "mark": {"type": "line", "strokeWidth": 1.6, "color": palette.text, "interpolate": "monotone"},
            "encoding": line,
        },
    ]
    if box:
        start_ms, end_ms, least, most_ms = box
        outlined = {
            "start_ms": max(start_ms, view.start_ms),
            "end_ms": min(end_ms, view.end_ms),
            "low": min(max(least, low), high),
            "high": max(min(most_ms, high), low),
        }
        layers.append(
            {
                "data": values([outlined]),
                "mark": {"type": "rect", "filled": False, "stroke": palette.broken, "strokeWidth": 2, "tooltip": False},
                "encoding": {"x": shared(x), "x2": {"field": "end_ms"}, "y": shared(y), "y2": {"field": "high"}},
            }
        )
    spec = top_level({"layer": layers}, height=HEAT_HEIGHT_PX)
    reading = [
        {
            "Ended": _span(view, row["bucket"], step_ms, tz)["when"],
            **{name: text.duration(row[f"{name}_ms"]) for name in ("p50", "p95", "p99")},
            "Turns": text.count(row["turns"]),
        }
        for row in steps
    ]
    return Chart(spec, _heat_alt(rows), reading)


def _cell(row: Row, view: View, step_ms: int, tz: tzinfo) -> Row:
    low, high = (0.7, 1.0) if row["size"] < 0 else (2 ** (row["size"] / 4), 2 ** ((row["size"] + 1) / 4))
    size = "below 1 ms" if row["size"] < 0 else f"{text.duration(low)} to {text.duration(high)}"
    return {
        **_span(view, row["bucket"], step_ms, tz),
        "low": low,
        "high": high,
        "turns": row["turns"],
        "size": size,
        "said": text.plural(row["turns"], "turn"),
    }


def _heat_alt(rows: Sequence[Row]) -> str:
    whole = next((row for row in rows if row["bucket"] is None and row["size"] is None), None)
    if whole is None or not whole["turns"]:
        return "The stage ran in no turn of this window."
    return (
        f"{text.plural(whole['turns'], 'turn')}: half took at most {text.duration(whole['p50_ms'])}, 95 of 100 at most {text.duration(whole['p95_ms'])}, "
        f"99 of 100 at most {text.duration(whole['p99_ms'])}."
    )


def shares(rows: Sequence[Row], palette: Palette) -> Chart:
    """From rows of `stage_shares.sql`: of all the time of a route's turns, the share of each stage; what no stage claims stands last."""
    routes = sorted(
        {row["route"] for row in rows}, key=lambda route: -max(row["turns"] for row in rows if row["route"] == route)
    )
    drawn: list[Row] = []
    for route in routes:
        left = 0.0
        for row in rows:
            if row["route"] == route and row["share"]:
                drawn.append(
                    {
                        "route": route,
                        "stage": row["stage"],
                        "phase": PHASES.get(row["stage"], "viewer"),
                        "from": left,
                        "to": left + row["share"],
                        "middle": left + row["share"] / 2,
                        "said": text.share(row["share"]),
                        "name": f"{row['stage']} {text.share(row['share'])}"
                        if row["share"] >= 2 * _LABELLED
                        else row["stage"]
                        if row["share"] >= _LABELLED
                        else "",
                        "strong": PHASES.get(row["stage"]) in {"model", "tool", "stream"},
                    }
                )
                left += row["share"]
    x: Spec = {
        "field": "from",
        "type": "quantitative",
        "scale": {"domain": [0, 1], "nice": False},
        "axis": {"title": None, "format": ".0%", "tickCount": 4, "grid": False},
    }
    y = rows_axis("route", routes, label_px=160)
    colour: Spec = {
        "field": "phase",
        "type": "nominal",
        "scale": {"domain": list(palette.phases), "range": list(palette.phases.values())},
        "legend": None,
    }
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "height": 20, "stroke": palette.ground, "strokeWidth": 1},
            "encoding": {
                "x": x,
                "x2": {"field": "to"},
                "y": y,
                "color": colour,
                "tooltip": tooltip(("route", "Route"), ("stage", "Stage"), ("said", "Share of all time")),
            },
        },
        *(
            {
                "transform": [{"filter": "datum.strong" if strong else "!datum.strong"}],
                "mark": {"type": "text", "fontSize": 11.5, "baseline": "middle", "tooltip": False, "color": ink},
                "encoding": {"x": {**x, "field": "middle"}, "y": y, "text": {"field": "name"}},
            }
            for strong, ink in ((True, palette.ground), (False, palette.text))
        ),
    ]
    spec = top_level({"data": values(drawn), "layer": layers}, height=max(1, len(routes)) * SHARE_ROW_PX)
    reading = [{"Route": row["route"], "Stage": row["stage"], "Share of all time": row["said"]} for row in drawn]
    if not drawn:
        return Chart(spec, "No turn has times in this window.", reading)
    largest = max(drawn, key=lambda row: row["to"] - row["from"])
    rest = [row for row in drawn if row["stage"] == UNACCOUNTED]
    most = max(rest, key=lambda row: row["to"] - row["from"]) if rest else None
    return Chart(
        spec,
        f"The largest share is {largest['stage']} on {largest['route']}, {largest['said']}."
        + (f" At most {most['said']} is claimed by no stage ({most['route']})." if most else ""),
        reading,
    )
