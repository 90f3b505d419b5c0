"""Where the time goes: median and 95th percentile of each stage, in the machine's order, on one logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence

from dashboard import text
from dashboard.charts.base import Chart, Row, Spec, tooltip, top_level, values
from dashboard.palette import Palette
from dashboard.stages import ORDER

ROW_PX = 33
_FLOOR_MS = 0.7  # a logarithmic axis has no zero: stages under a millisecond stand at its left end
_ROOM = 7.0  # times the longest: what stands at the end of a bar needs a place on a logarithmic scale
_TICKS_MS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)


def stage_latency(rows: Sequence[Row], palette: Palette) -> Chart:
    """From rows of `stages.sql`. The hollow diamond is the 95th percentile of the window before."""
    now = {row["stage"]: row for row in rows if row["period"] == "now"}
    before = {row["stage"]: row for row in rows if row["period"] == "before"}
    drawn = [_drawn(now[column], before.get(column), label, phase) for column, label, phase in ORDER if column in now]
    labels = [row["label"] for row in drawn]
    top = max((max(row["p95"], row["was"] or 0) for row in drawn), default=1000) * _ROOM
    scale: Spec = {"type": "log", "domain": [_FLOOR_MS, top], "nice": False}
    ticks = [tick for tick in _TICKS_MS if tick <= top / 2]
    x: Spec = {
        "field": "p50",
        "type": "quantitative",
        "scale": scale,
        "axis": {
            "values": ticks,
            "title": None,
            "labelExpr": "datum.value < 1000 ? datum.value + ' ms' : datum.value / 1000 + ' s'",
        },
    }
    y: Spec = {
        "field": "label",
        "type": "nominal",
        "sort": labels,
        "axis": {"title": None, "grid": False, "domain": False, "ticks": False, "labelLimit": 160, "labelPadding": 8},
    }
    tips = tooltip(("label", "Stage"), ("p50_said", "p50"), ("p95_said", "p95"), ("was_said", "p95 before"), ("turns", "Turns"))
    colour: Spec = {
        "field": "phase",
        "type": "nominal",
        "scale": {"domain": list(palette.phases), "range": list(palette.phases.values())},
        "legend": None,
    }
    # A layer that its filter leaves empty is a picture without a name.
    compared: list[Spec] = []
    if any(row["was"] is not None for row in drawn):
        compared.append(
            {
                "mark": {
                    "type": "point",
                    "shape": "diamond",
                    "size": 54,
                    "filled": False,
                    "strokeWidth": 1.4,
                    "color": palette.muted,
                },
                "transform": [{"filter": "isValid(datum.was)"}],
                "encoding": {"x": {**x, "field": "was"}, "y": y, "tooltip": tips},
            }
        )
    layers = [
        {
            "mark": {"type": "bar", "height": 8, "opacity": 0.45, "cornerRadius": 4},
            "encoding": {"x": x, "x2": {"field": "p95"}, "y": y, "color": colour, "tooltip": tips},
        },
        *compared,
        {
            "mark": {"type": "point", "shape": "circle", "size": 60, "filled": True, "opacity": 1},
            "encoding": {"x": x, "y": y, "color": colour, "tooltip": tips},
        },
        {
            "mark": {"type": "tick", "orient": "vertical", "height": 14, "thickness": 3, "opacity": 1},
            "encoding": {"x": {**x, "field": "p95"}, "y": y, "color": colour, "tooltip": tips},
        },
        {
            "mark": {"type": "text", "align": "left", "baseline": "middle", "dx": 10, "fontSize": 12, "color": palette.text},
            "encoding": {"x": {**x, "field": "right"}, "y": y, "text": {"field": "said"}},
        },
    ]
    spec = top_level({"data": values(drawn), "layer": layers}, height=max(1, len(drawn)) * ROW_PX)
    return Chart(spec, _alt(drawn), [_reading(row) for row in drawn])


def _drawn(now: Row, before: Row | None, label: str, phase: str) -> Row:
    was = before["p95_ms"] if before else None
    return {
        "label": label,
        "phase": phase,
        "p50": max(now["p50_ms"], _FLOOR_MS),
        "p95": max(now["p95_ms"], _FLOOR_MS),
        "was": None if was is None else max(was, _FLOOR_MS),
        "right": max(now["p95_ms"], was or 0, _FLOOR_MS),
        "said": f"{text.duration(now['p50_ms'])} · {text.duration(now['p95_ms'])}",
        "p50_said": text.duration(now["p50_ms"]),
        "p95_said": text.duration(now["p95_ms"]),
        "was_said": text.duration(was),
        "share_said": text.share(now["share"]) if phase != "turn" else text.NONE,
        "share": now["share"],
        "turns": text.count(now["turns"]),
    }


def _reading(row: Row) -> Row:
    return {
        "Stage": row["label"],
        "p50": row["p50_said"],
        "p95": row["p95_said"],
        "p95 before": row["was_said"],
        "Share of all time": row["share_said"],
        "Turns": row["turns"],
    }


def _alt(drawn: Sequence[Row]) -> str:
    stages = [row for row in drawn if row["phase"] != "turn"]
    if not stages:
        return "No stage ran in this window."
    slowest = max(stages, key=lambda row: row["p95"])
    largest = max(stages, key=lambda row: row["share"] or 0)
    return (
        f"Slowest stage by 95th percentile: {slowest['label']}, {slowest['p95_said']} (median {slowest['p50_said']}). "
        f"Most of all time goes to {largest['label']}, {largest['share_said']}."
    )
