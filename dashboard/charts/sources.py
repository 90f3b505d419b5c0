"""What answers rest on, route by route: how many sources, and where they were evidenced."""

from __future__ import annotations

from collections.abc import Sequence

from dashboard import text
from dashboard.charts.base import Chart, Row, Spec, rows_axis, tooltip, top_level, values
from dashboard.charts.evidence import MOST_SOURCES
from dashboard.palette import Palette

ROW_PX = 34
ORIGINS = {
    "retrieval": "found by retrieval",
    "tool": "returned by a tool",
    "payload": "given with the request",
    "answer": "cited in the answer",
}
"""Where a source was evidenced, in the contract's word, and how it reads."""


def counts_by_route(rows: Sequence[Row], palette: Palette) -> Chart:
    """From rows of `source_counts.sql`: of each route's answered turns, the share that rests on so many sources; the column for none is outlined."""
    totals: dict[str, int] = {}
    counts: dict[tuple[str, int], int] = {}
    for row in rows:
        totals[row["route"]] = totals.get(row["route"], 0) + row["turns"]
        place = (row["route"], min(row["sources_count"], MOST_SOURCES))
        counts[place] = counts.get(place, 0) + row["turns"]
    routes = sorted(totals, key=lambda route: -counts.get((route, 0), 0) / totals[route])
    last = max([3, *(sources for _, sources in counts)])
    columns = [f"{sources}+" if sources == MOST_SOURCES else str(sources) for sources in range(last + 1)]
    drawn: list[Row] = []
    for route in routes:
        for sources, column in enumerate(columns):
            turns = counts.get((route, sources), 0)
            share = turns / totals[route]
            drawn.append(
                {
                    "route": route,
                    "sources": column,
                    "share": share,
                    "said": text.share(share) if turns else "",
                    "of": f"{turns:,} of {totals[route]:,}",
                    "none": sources == 0,
                    "strong": share > 0.45,
                }
            )
    x: Spec = {
        "field": "sources",
        "type": "ordinal",
        "sort": columns,
        "axis": {"title": "sources in the answer", "labelAngle": 0, "ticks": False, "domain": False},
    }
    y = rows_axis("route", routes, label_px=160)
    tips = tooltip(("route", "Route"), ("sources", "Sources"), ("of", "Answered turns"), ("said", "Share"))
    layers: list[Spec] = [
        {
            "mark": {"type": "rect", "stroke": palette.ground, "strokeWidth": 2},
            "encoding": {
                "x": x,
                "y": y,
                "color": {
                    "field": "share",
                    "type": "quantitative",
                    "scale": {"domain": [0, 1], "range": [palette.heat[0], palette.heat[-2]]},
                    "legend": None,
                },
                "tooltip": tips,
            },
        },
        {
            "transform": [{"filter": "datum.none && datum.share > 0"}],
            "mark": {"type": "rect", "filled": False, "stroke": palette.broken, "strokeWidth": 2, "tooltip": False},
            "encoding": {"x": x, "y": y},
        },
        *(
            {
                "transform": [{"filter": "datum.strong" if strong else "!datum.strong"}],
                "mark": {"type": "text", "fontSize": 12, "baseline": "middle", "tooltip": False, "color": ink},
                "encoding": {"x": x, "y": y, "text": {"field": "said"}},
            }
            for strong, ink in ((True, palette.ground), (False, palette.text))
        ),
    ]
    spec = top_level({"data": values(drawn), "layer": layers}, height=max(1, len(routes)) * ROW_PX)
    reading = [
        {"Route": row["route"], "Sources": row["sources"], "Share": row["said"], "Answered turns": row["of"]}
        for row in drawn
        if row["said"]
    ]
    if not routes:
        return Chart(spec, "No turn was answered in this window.", reading)
    worst = routes[0]
    none = counts.get((worst, 0), 0)
    return Chart(
        spec,
        f"Most answers without a source: {worst}, {none:,} of {text.plural(totals[worst], 'answered turn')} ({text.share(none / totals[worst])}).",
        reading,
    )


def origins(rows: Sequence[Row], palette: Palette) -> Chart:
    """From rows of `source_origins.sql`: sources by where they were evidenced."""
    total = next((row["sources"] for row in rows if row["origin"] is None), 0)
    drawn: list[Row] = [
        {
            "label": ORIGINS.get(row["origin"], row["origin"]),
            "zero": 0,
            "sources": row["sources"],
            "said": f"{row['sources']:,} ({text.share(row['sources'] / total)})",
            "turns": text.count(row["turns"]),
        }
        for row in rows
        if row["origin"] is not None
    ]
    x: Spec = {
        "field": "zero",
        "type": "quantitative",
        "scale": {"domain": [0, max((row["sources"] for row in drawn), default=1) * 1.4], "nice": False},
        "axis": None,
    }
    y = rows_axis("label", [row["label"] for row in drawn], label_px=180)
    layers: list[Spec] = [
        {
            "mark": {"type": "bar", "height": 14, "color": palette.phases["retrieval"], "cornerRadiusEnd": 2},
            "encoding": {
                "x": x,
                "x2": {"field": "sources"},
                "y": y,
                "tooltip": tooltip(("label", "Sources"), ("said", "Of all sources"), ("turns", "Turns")),
            },
        },
        {
            "mark": {"type": "text", "align": "left", "baseline": "middle", "dx": 7, "fontSize": 12, "color": palette.text},
            "encoding": {"x": {**x, "field": "sources"}, "y": y, "text": {"field": "said"}},
        },
    ]
    spec = top_level({"data": values(drawn), "layer": layers}, height=max(1, len(drawn)) * 30)
    reading = [{"Sources": row["label"], "Of all sources": row["said"], "Turns": row["turns"]} for row in drawn]
    if not drawn:
        return Chart(spec, "No source says where it was evidenced.", reading)
    return Chart(spec, f"Most sources were {drawn[0]['label']}: {drawn[0]['said']} of {text.plural(total, 'source')}.", reading)
