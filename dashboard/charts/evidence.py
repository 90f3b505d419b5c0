"""What answers rest on: how many sources a turn has, and what came of the tools that were called."""

from __future__ import annotations

from collections.abc import Sequence

from dashboard import text
from dashboard.charts.base import Chart, Row, Spec, tooltip, top_level, values
from dashboard.palette import Palette

MOST_SOURCES = 10
"""Turns with this many sources or more share the last bar."""

SOURCES_HEIGHT_PX = 190
TOOL_ROW_PX = 30

OUTCOMES = (("results", "with results"), ("empty", "empty"), ("timeout", "timeout"), ("error", "error"))


def source_counts(rows: Sequence[Row], palette: Palette) -> Chart:
    """From rows of `source_counts.sql`: the distribution over all routes. The bar for no source is outlined and named."""
    counts = [0] * (MOST_SOURCES + 1)
    for row in rows:
        counts[min(row["sources_count"], MOST_SOURCES)] += row["turns"]
    total = sum(counts)
    last = max((place for place, count in enumerate(counts) if count), default=0)
    drawn: list[Row] = [
        {
            "sources": f"{place}+" if place == MOST_SOURCES else str(place),
            "turns": count,
            "share": count / total if total else 0.0,
            "said": text.share(count / total) if total and count else "",
            "turns_said": text.count(count),
            "none": place == 0,
        }
        for place, count in enumerate(counts[: max(last, 3) + 1])
    ]
    x: Spec = {
        "field": "sources",
        "type": "ordinal",
        "scale": {"domain": [row["sources"] for row in drawn]},
        "axis": {"title": "sources in the answer", "labelAngle": 0, "ticks": False, "domain": False},
    }
    y: Spec = {
        "field": "share",
        "type": "quantitative",
        "axis": None,
        "scale": {"domain": [0, max([0.05, *(row["share"] for row in drawn)]) * 1.14]},
    }
    tips = tooltip(("sources", "Sources"), ("turns_said", "Turns"), ("said", "Share"))
    layers = [
        {
            "transform": [{"filter": "!datum.none"}],
            "mark": {"type": "bar", "color": palette.phases["retrieval"], "cornerRadiusEnd": 2},
            "encoding": {"x": x, "y": y, "tooltip": tips},
        },
        {
            "transform": [{"filter": "datum.none"}],
            "mark": {
                "type": "bar",
                "color": palette.broken,
                "fillOpacity": 0.25,
                "stroke": palette.broken,
                "strokeWidth": 1.5,
                "cornerRadiusEnd": 2,
            },
            "encoding": {"x": x, "y": y, "tooltip": tips},
        },
        {
            "mark": {"type": "text", "baseline": "bottom", "dy": -4, "fontSize": 12, "color": palette.text},
            "encoding": {"x": x, "y": y, "text": {"field": "said"}},
        },
    ]
    spec = top_level({"data": values(drawn), "layer": layers}, height=SOURCES_HEIGHT_PX)
    return Chart(spec, _sources_alt(counts, total), sources_by_route(rows))


def sources_by_route(rows: Sequence[Row]) -> list[Row]:
    """Per route: answered turns, how many rest on no source, and the mean number of sources; the most without a source first."""
    routes: dict[str, list[Row]] = {}
    for row in rows:
        routes.setdefault(row["route"], []).append(row)
    table: list[tuple[float, Row]] = []
    for route, counts in routes.items():
        turns = sum(row["turns"] for row in counts)
        none = sum(row["turns"] for row in counts if row["sources_count"] == 0)
        mean = sum(row["turns"] * row["sources_count"] for row in counts) / turns
        table.append(
            (
                none / turns,
                {
                    "Route": route,
                    "Answered turns": text.count(turns),
                    "No source": text.count(none),
                    "Share with no source": text.share(none / turns),
                    "Sources per turn": f"{mean:.1f}",
                },
            )
        )
    return [row for _, row in sorted(table, key=lambda pair: -pair[0])]


def without_source(rows: Sequence[Row]) -> tuple[int, int]:
    """Turns with no source, and all answered turns."""
    return sum(row["turns"] for row in rows if row["sources_count"] == 0), sum(row["turns"] for row in rows)


def tools_called(rows: Sequence[Row], palette: Palette) -> Chart:
    """From rows of `tools.sql` with one row per tool: calls, by what they came to."""
    tools = [row["name"] for row in rows]
    colours = dict(
        zip(
            (label for _, label in OUTCOMES),
            (palette.phases["tool"], palette.faint, palette.broken, palette.error),
            strict=True,
        )
    )
    segments: list[Row] = []
    for row in rows:
        left = 0
        for field, label in OUTCOMES:
            if row[field]:
                segments.append(
                    {
                        "tool": row["name"],
                        "outcome": label,
                        "from": left,
                        "to": left + row[field],
                        "said": f"{row[field]:,} of {row['calls']:,} ({text.share(row[field] / row['calls'])})",
                    }
                )
                left += row[field]
    ends = [
        {"tool": row["name"], "to": row["calls"], "said": f"{text.share(row['results'] / row['calls'])} of {row['calls']:,}"}
        for row in rows
    ]
    most = max((row["calls"] for row in rows), default=1)
    x: Spec = {
        "field": "from",
        "type": "quantitative",
        "scale": {"domain": [0, most * 1.45], "nice": False},
        "axis": None,
    }
    y: Spec = {
        "field": "tool",
        "type": "nominal",
        "sort": tools,
        "axis": {"title": None, "ticks": False, "domain": False, "labelLimit": 150, "labelPadding": 8},
    }
    layers = [
        {
            "data": values(segments),
            "mark": {"type": "bar", "height": 14, "stroke": palette.ground, "strokeWidth": 1},
            "encoding": {
                "x": x,
                "x2": {"field": "to"},
                "y": y,
                "color": {
                    "field": "outcome",
                    "type": "nominal",
                    "scale": {"domain": list(colours), "range": list(colours.values())},
                    "legend": {"orient": "bottom", "title": None, "columns": 2},
                },
                "tooltip": tooltip(("tool", "Tool"), ("outcome", "Outcome"), ("said", "Calls")),
            },
        },
        {
            "data": values(ends),
            "mark": {"type": "text", "align": "left", "baseline": "middle", "dx": 7, "fontSize": 12, "color": palette.text},
            "encoding": {"x": {**x, "field": "to"}, "y": y, "text": {"field": "said"}},
        },
    ]
    spec = top_level({"layer": layers}, height=max(1, len(rows)) * TOOL_ROW_PX)
    return Chart(spec, _tools_alt(rows), [_tool_reading(row) for row in rows])


def _tool_reading(row: Row) -> Row:
    return {
        "Tool": row["name"],
        "Calls": text.count(row["calls"]),
        "With results": text.count(row["results"]),
        "Share with results": text.share(row["results"] / row["calls"]),
        "Empty": text.count(row["empty"]),
        "Timeout": text.count(row["timeout"]),
        "Error": text.count(row["error"]),
        "p95": text.duration(row["duration_p95_ms"]),
    }


def _sources_alt(counts: Sequence[int], total: int) -> str:
    if not total:
        return "No turn was answered in this window."
    usual = max(range(len(counts)), key=counts.__getitem__)
    most = f"{usual} or more sources" if usual == MOST_SOURCES else text.plural(usual, "source")
    return (
        f"{text.share(counts[0] / total)} of {text.plural(total, 'answered turn')} have no source; "
        f"most often an answer has {most} ({text.share(counts[usual] / total)})."
    )


def _tools_alt(rows: Sequence[Row]) -> str:
    if not rows:
        return "No tool was called in this window."
    worst = min(rows, key=lambda row: row["results"] / row["calls"])
    return (
        f"{text.plural(len(rows), 'tool was', 'tools were')} called; fewest results: {worst['name']}, "
        f"{worst['results']:,} of {worst['calls']:,} calls ({text.share(worst['results'] / worst['calls'])})."
    )
