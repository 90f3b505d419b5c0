"""Which turns broke: why and when, in which stage, how long after the first visible token, on which route, and what became of the others in trouble.

A reason keeps one colour in all charts of the page; its name stands beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo

from dashboard import stats, text
from dashboard.charts.base import ZOOM, Chart, Row, Spec, drag, rows_axis, shared, time_axis, tooltip, top_level, values
from dashboard.palette import Palette
from dashboard.stages import LABELS
from dashboard.state import View

REASONS_HEIGHT_PX = 200
ROW_PX = 30
BREAKS_HEIGHT_PX = 170
OTHER = "other reasons"
LOST = "unknown"

ENDINGS = (
    ("retried", "answered at another attempt", "before"),
    ("degraded", "answered by a cheaper tier", "before"),
    ("fallback", "given the safe answer", "before"),
    ("failed", "failed with nothing shown", "before"),
    ("kept", "cut, its text kept as partial", "after"),
    ("lost", "lost: no terminal came", "unknown"),
)
"""Ending in `partial_ends.sql`, how it reads, and on which side of the first visible token it was decided."""
SAVED = frozenset({"retried", "degraded", "fallback"})


def reason_colours(rows: Sequence[Row], palette: Palette) -> dict[str, str]:
    """Reasons of rows of `partials.sql` with their colours, the most frequent first; what is beyond the palette is one."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["reason"]] = counts.get(row["reason"], 0) + row["turns"]
    names = sorted(counts, key=lambda name: (-counts[name], name))
    own = len(palette.series) - 1
    named = names if len(names) <= own else names[:own]
    found = dict(zip(named, palette.series, strict=False))
    return found if len(names) <= own else found | {OTHER: palette.series[-1]}


def _named(reason: str, colours: Mapping[str, str]) -> str:
    return reason if reason in colours else OTHER


def _by_reason(colours: Mapping[str, str], *, legend: bool) -> Spec:
    shown = {"orient": "bottom", "title": None, "columns": 3, "symbolType": "square"} if legend else None
    return {
        "field": "reason",
        "type": "nominal",
        "scale": {"domain": list(colours), "range": list(colours.values())},
        "legend": shown,
    }


def reasons_over_time(rows: Sequence[Row], view: View, factor: int, palette: Palette, tz: tzinfo) -> Chart:
    """From rows of `partials.sql`: broken turns by step and reason, stacked. `factor` neighbouring buckets are one step.

    Returns:
        A chart whose selection `zoom` is an interval of time.
    """
    colours = reason_colours(rows, palette)
    step_ms = view.bucket_ms * factor
    counts: dict[tuple[int, str], int] = {}
    for row in rows:
        place = (row["bucket"] // factor, _named(row["reason"], colours))
        counts[place] = counts.get(place, 0) + row["turns"]
    drawn: list[Row] = []
    tops: dict[int, int] = {}
    for step in sorted({step for step, _ in counts}):
        for reason in colours:
            turns = counts.get((step, reason), 0)
            if turns:
                low = tops.get(step, 0)
                tops[step] = low + turns
                start_ms = view.start_ms + step * step_ms
                drawn.append(
                    {
                        "start_ms": start_ms,
                        "end_ms": min(start_ms + step_ms, view.end_ms),
                        "low": low,
                        "high": low + turns,
                        "reason": reason,
                        "when": f"{_clock(start_ms, tz)} to {_clock(start_ms + step_ms, tz)}",
                        "said": text.plural(turns, "turn"),
                    }
                )
    x = time_axis(view.start_ms, view.end_ms)
    y: Spec = {
        "type": "quantitative",
        "scale": {"domain": [0, max([*tops.values(), 4]) * 1.08], "nice": False},
        "axis": {"title": None, "tickCount": 4, "format": "d"},
    }
    ends = [{"start_ms": view.start_ms, "zero": 0}, {"start_ms": view.end_ms, "zero": 0}]
    layers = [
        {
            "data": values(ends),
            "mark": {"type": "point", "opacity": 0, "tooltip": False},
            "encoding": {"x": x, "y": {**y, "field": "zero"}},
        },
        {
            "mark": {"type": "rect", "stroke": palette.ground, "strokeWidth": 0.7},
            "params": [drag(ZOOM, ["x"], palette)],
            "encoding": {
                "x": shared(x),
                "x2": {"field": "end_ms"},
                "y": {**shared(y), "field": "low"},
                "y2": {"field": "high"},
                "color": _by_reason(colours, legend=True),
                "tooltip": tooltip(("when", "Ended"), ("reason", "Reason"), ("said", "Broken")),
            },
        },
    ]
    spec = top_level({"data": values(drawn), "layer": layers}, height=REASONS_HEIGHT_PX)
    reading = [{"Ended": row["when"], "Reason": row["reason"], "Broken turns": row["said"]} for row in drawn]
    return Chart(spec, _reasons_alt(rows), reading)


def _clock(ms: int, tz: tzinfo) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC).astimezone(tz):%d %b %H:%M:%S}"


def _reasons_alt(rows: Sequence[Row]) -> str:
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["reason"]] = counts.get(row["reason"], 0) + row["turns"]
    total = sum(counts.values())
    if not total:
        return "No turn broke in this window."
    most = sorted(counts, key=lambda name: -counts[name])[:3]
    return f"{text.plural(total, 'turn')} broke; most often for {', '.join(f'{name} ({text.share(counts[name] / total)})' for name in most)}."


def broken_in(rows: Sequence[Row], palette: Palette) -> Chart:
    """From rows of `partials.sql`: broken turns by the stage that they broke in, each bar by reason."""
    colours = reason_colours(rows, palette)
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        place = (LABELS.get(row["stage"], LOST), _named(row["reason"], colours))
        counts[place] = counts.get(place, 0) + row["turns"]
    stages = [label for label in (*LABELS.values(), LOST) if any(stage == label for stage, _ in counts)]
    total = sum(counts.values())
    segments: list[Row] = []
    ends: list[Row] = []
    for stage in stages:
        left = 0
        for reason in colours:
            turns = counts.get((stage, reason), 0)
            if turns:
                said = f"{turns:,} of {total:,} broken ({text.share(turns / total)})"
                segments.append({"stage": stage, "reason": reason, "from": left, "to": left + turns, "said": said})
                left += turns
        ends.append({"stage": stage, "to": left, "said": f"{left:,} ({text.share(left / total)})"})
    x: Spec = {
        "field": "from",
        "type": "quantitative",
        "scale": {"domain": [0, max((row["to"] for row in ends), default=1) * 1.35], "nice": False},
        "axis": None,
    }
    y = rows_axis("stage", stages)
    layers = [
        {
            "data": values(segments),
            "mark": {"type": "bar", "height": 15, "stroke": palette.ground, "strokeWidth": 1},
            "encoding": {
                "x": x,
                "x2": {"field": "to"},
                "y": y,
                "color": _by_reason(colours, legend=False),
                "tooltip": tooltip(("stage", "Stage"), ("reason", "Reason"), ("said", "Turns")),
            },
        },
        _end_text(ends, x, y, palette),
    ]
    spec = top_level({"layer": layers}, height=max(1, len(stages)) * ROW_PX)
    reading = [{"Stage": row["stage"], "Reason": row["reason"], "Broken turns": row["said"]} for row in segments]
    if not ends:
        return Chart(spec, "No turn broke in this window.", reading)
    most = max(ends, key=lambda row: row["to"])
    return Chart(spec, f"Most turns broke in {most['stage']}: {most['said']} of {text.plural(total, 'broken turn')}.", reading)


def _diamond(palette: Palette) -> Spec:
    return {"type": "point", "shape": "diamond", "size": 50, "filled": False, "strokeWidth": 1.4, "color": palette.muted}


def _end_text(ends: Sequence[Row], x: Spec, y: Spec, palette: Palette) -> Spec:
    return {
        "data": values(ends),
        "mark": {"type": "text", "align": "left", "baseline": "middle", "dx": 7, "fontSize": 12, "color": palette.text},
        "encoding": {"x": {**x, "field": "to"}, "y": y, "text": {"field": "said"}},
    }


def time_to_break(rows: Sequence[Row], palette: Palette) -> Chart:
    """From rows of `partial_breaks.sql`: how long after the first visible token turns broke, in half octaves on a logarithmic axis."""
    sizes = {row["size"]: row["turns"] for row in rows if row["size"] is not None}
    total = sum(sizes.values())
    drawn: list[Row] = [
        {
            "from": 2 ** (size / 2),
            "to": 2 ** ((size + 1) / 2),
            "zero": 0,
            "turns": turns,
            "after": f"{text.duration(2 ** (size / 2))} to {text.duration(2 ** ((size + 1) / 2))}",
            "said": f"{turns:,} of {total:,} ({text.share(turns / total)})",
        }
        for size, turns in sorted(sizes.items())
    ]
    low, high = (drawn[0]["from"] / 2, drawn[-1]["to"] * 2) if drawn else (1, 1000)
    x: Spec = {
        "field": "from",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [low, high], "nice": False},
        "axis": {
            "title": None,
            "grid": False,
            "values": [tick for tick in (1, 10, 100, 1_000, 10_000, 100_000) if low <= tick <= high],
            "labelExpr": "datum.value < 1000 ? datum.value + ' ms' : datum.value / 1000 + ' s'",
        },
    }
    y: Spec = {"field": "zero", "type": "quantitative", "axis": {"title": None, "tickCount": 3, "format": "d"}}
    layer = {
        "mark": {"type": "rect", "color": palette.broken, "opacity": 0.8, "stroke": palette.ground},
        "encoding": {
            "x": x,
            "x2": {"field": "to"},
            "y": y,
            "y2": {"field": "turns"},
            "tooltip": tooltip(("after", "After the first token"), ("said", "Broken turns")),
        },
    }
    spec = top_level({"data": values(drawn), "layer": [layer]}, height=BREAKS_HEIGHT_PX)
    reading = [{"After the first token": row["after"], "Broken turns": row["said"]} for row in drawn]
    p50_ms = next((row["p50_ms"] for row in rows if row["size"] is None), None)
    alt = f"Half of {text.plural(total, 'turn')} that broke with text shown broke within {text.duration(p50_ms)} of the first token."
    return Chart(spec, alt if total else "No turn broke after text was shown.", reading)


def endings(rows: Sequence[Row], palette: Palette, *, compare: bool) -> Chart:
    """From rows of `partial_ends.sql`: what became of every turn in trouble. The hollow diamond is the window before, where it can be compared with."""
    now = {row["ending"]: row["turns"] for row in rows if row["period"] == "now"}
    before = {row["ending"]: row["turns"] for row in rows if row["period"] == "before"}
    total = sum(now.values())
    drawn: list[Row] = [
        {
            "label": label,
            "zero": 0,
            "turns": now.get(ending, 0),
            "before": before.get(ending, 0) if compare else None,
            "to": max(now.get(ending, 0), before.get(ending, 0) if compare else 0),
            "said": text.count(now.get(ending, 0)),
            "side": {"before": "before the first visible token", "after": "after it", "unknown": text.NONE}[side],
            "saved": ending in SAVED,
        }
        for ending, label, side in ENDINGS
    ]
    top = max([1, *(row["to"] for row in drawn)])
    x: Spec = {
        "field": "zero",
        "type": "quantitative",
        "scale": {"domain": [0, top * 1.15], "nice": False},
        "axis": None,
    }
    y = rows_axis("label", [row["label"] for row in drawn])
    tips = tooltip(("label", "Turn"), ("said", "Turns"), ("before", "Window before"), ("side", "Decided"))
    layers: list[Spec] = [
        {
            "transform": [{"filter": "datum.saved" if saved else "!datum.saved"}],
            "mark": {"type": "bar", "height": 13, "color": colour, "cornerRadiusEnd": 2, "opacity": 0.85},
            "encoding": {"x": x, "x2": {"field": "turns"}, "y": y, "tooltip": tips},
        }
        for saved, colour in ((True, palette.accent), (False, palette.broken))
    ]
    if compare:
        layers.append(
            {
                "mark": _diamond(palette),
                "encoding": {"x": {**x, "field": "before"}, "y": y, "tooltip": tips},
            }
        )
    layers.append(_end_text(drawn, x, y, palette))
    spec = top_level({"data": values(drawn), "layer": layers}, height=len(drawn) * ROW_PX)
    reading = [
        {"Turn": row["label"], "Turns": row["said"], "Window before": text.count(row["before"]), "Decided": row["side"]}
        for row in drawn
    ]
    saved = sum(row["turns"] for row in drawn if row["saved"])
    if not total:
        return Chart(spec, "Every turn went right at once.", reading)
    return Chart(spec, f"Of {text.plural(total, 'turn')} in trouble, {saved:,} were saved before text was shown.", reading)


def where(rows: Sequence[Row], palette: Palette) -> Chart:
    """From rows of `partial_where.sql`: the partial rate of each route and tier with its interval, worst first; hollow where few turns stand behind it.

    Turns without a route are left out of the picture, not of the table: nearly all of them broke before they had one.
    """
    ordered = sorted(rows, key=lambda row: (row["route"] is None, -stats.wilson(row["broken"], row["turns"])[0], -row["turns"]))
    read = [_place(row) for row in ordered]
    drawn = [row for row in read if row["routed"]]
    trusted = [row for row in drawn if not row["thin"]] or drawn
    peak = max((max(row["rate"], row["was"] or 0) for row in trusted), default=0.0)
    top = stats.nice_ceiling(max(0.05, peak * 1.15, min(max((row["high"] for row in trusted), default=0.0), peak * 1.6)))
    for row in drawn:
        row |= {name: min(row[name], top) for name in ("low", "high", "rate")}
        row["was"] = None if row["was"] is None else min(row["was"], top)
        row["to"] = max(row["high"], row["was"] or 0)
    x: Spec = {
        "field": "low",
        "type": "quantitative",
        "scale": {"domain": [0, top * 1.5], "nice": False},
        "axis": {"title": None, "format": ".1~%", "values": [0, top / 2, top]},
    }
    y = rows_axis("place", [row["place"] for row in drawn])
    tips: list[Spec] = tooltip(
        ("place", "Route and tier"),
        ("said", "Partial rate"),
        ("interval", "95% interval"),
        ("was_said", "Window before"),
    )
    dots: list[Spec] = [
        {
            "transform": [{"filter": "datum.thin" if thin else "!datum.thin"}],
            "mark": {"type": "point", "size": 70, "filled": not thin, "opacity": 1, "color": palette.broken},
            "encoding": {"x": {**x, "field": "rate"}, "y": y, "tooltip": tips},
        }
        for thin in (True, False)
        if any(row["thin"] is thin for row in drawn)
    ]
    compared: list[Spec] = []
    if any(row["was"] is not None for row in drawn):
        compared.append(
            {
                "transform": [{"filter": "isValid(datum.was)"}],
                "mark": _diamond(palette),
                "encoding": {"x": {**x, "field": "was"}, "y": y, "tooltip": tips},
            }
        )
    layers: list[Spec] = [
        {
            "mark": {"type": "rule", "strokeWidth": 6, "opacity": 0.28, "color": palette.broken, "strokeCap": "round"},
            "encoding": {"x": x, "x2": {"field": "high"}, "y": y, "tooltip": tips},
        },
        *dots,
        *compared,
        _end_text(drawn, x, y, palette),
    ]
    spec = top_level({"data": values(drawn), "layer": layers}, height=max(1, len(drawn)) * ROW_PX)
    reading = [
        {
            "Route and tier": row["place"],
            "Partial rate": row["rate_said"],
            "95% interval": row["interval"],
            "Partial turns": row["of"],
            "Window before": row["was_said"],
        }
        for row in read
    ]
    worst = drawn[0] if drawn else None
    alt = f"Worst: {worst['place']}, {worst['said']}, 95% interval {worst['interval']}." if worst else "No turn ended."
    return Chart(spec, alt, reading)


def _place(row: Row) -> Row:
    low, high = stats.wilson(row["broken"], row["turns"])
    rate = row["broken"] / row["turns"]
    enough = row["turns_before"] >= stats.FEW_TURNS
    return {
        "place": " · ".join(filter(None, (row["route"], row["tier"]))) or "no route",
        "routed": row["route"] is not None,
        "low": low,
        "high": high,
        "rate": rate,
        "was": row["broken_before"] / row["turns_before"] if enough else None,
        "thin": row["turns"] < stats.FEW_TURNS,
        "rate_said": text.share(rate),
        "of": f"{row['broken']:,} of {row['turns']:,}",
        "said": f"{text.share(rate)} ({row['broken']:,} of {row['turns']:,})",
        "interval": f"{text.share(low)} to {text.share(high)}",
        "was_said": text.share(row["broken_before"] / row["turns_before"]) if enough else text.NONE,
    }
