"""A turn's span tree as a waterfall: a row per span, indented by depth, the fill its phase, the outline how it ended.

The dashed line is the commit point: right of it, on a pale ground, no attempt may begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from dashboard import text
from dashboard.charts.base import Chart, Row, Spec, tooltip, top_level, values
from dashboard.palette import Palette
from dashboard.trace import SpanRow, Trace

ROW_PX = 23
LABELS_PX = 214
INDENT_PX = 13
MAX_LABEL_CHARS = 33
MAX_NOTE_CHARS = 58
_PLOT_PX = 1000  # a usual width: only used to keep a place for what stands at the end of the bars
_CHAR_PX = 6.0
_MOST_ROOM = 1.75
_LEAST_WIDTH = 0.0022  # of the total: a span of a few microseconds stays visible
COMMIT_LABEL = "first visible token: no retry after this"


def waterfall(trace: Trace, palette: Palette) -> Chart:
    """The picture of a trace that has at least one row."""
    total = max([trace.total_ms, 1.0, *(row.end_ms for row in trace.rows)])
    drawn = [_drawn(row, place, total) for place, row in enumerate(trace.rows)]
    places = [row["place"] for row in drawn]
    reach = total * _room(drawn, total)
    x: Spec = {
        "field": "start",
        "type": "quantitative",
        "scale": {"domain": [0, reach], "nice": False},
        "axis": {
            "orient": "top",
            "title": None,
            "values": _ticks(total),
            "domain": False,
            "labelExpr": "datum.value === 0 ? '0' : datum.value < 1000 ? format(datum.value, '~r') + ' ms' : "
            "format(datum.value / 1000, '~r') + ' s'",
            "gridColor": palette.grid,
            "ticks": False,
        },
    }
    y: Spec = {
        "field": "place",
        "type": "ordinal",
        "sort": places,
        "axis": None,
        "scale": {"paddingInner": 0.38, "paddingOuter": 0.2},
    }
    used = [phase for phase in palette.phases if any(row["phase"] == phase for row in drawn)]
    colour: Spec = {
        "field": "phase",
        "type": "nominal",
        "scale": {"domain": used, "range": [palette.phases[phase] for phase in used]},
        "legend": {"orient": "bottom", "title": None, "symbolType": "square", "columns": 8, "offset": 14},
    }
    tips = tooltip(
        ("name", "Span"), ("start_said", "Starts"), ("duration_said", "Takes"), ("status", "Status"), ("note", "Why")
    )
    layers: list[Spec] = [
        *_commit(trace, total, x, drawn, palette),
        {
            "mark": {"type": "rect", "cornerRadius": 2, "stroke": None},
            "encoding": {"x": x, "x2": {"field": "end"}, "y": y, "color": colour, "tooltip": tips},
        },
        *(_outline(tone, shade, dash, x, y, tips) for tone, shade, dash in _outlines(palette)),
        _names(y, palette, tips),
        *(_notes(x, y, palette, side) for side in ("left", "right")),
    ]
    spec = top_level({"data": values(drawn), "layer": layers}, height=len(drawn) * ROW_PX)
    return Chart(spec, _alt(trace), [reading(row) for row in trace.rows])


def reading(row: SpanRow) -> Row:
    """A span as a row of the table under the chart, which takes the chart's place on a narrow screen."""
    return {
        "Span": " " * row.depth + row.label,
        "Starts": text.duration(row.start_ms),
        "Takes": text.duration(row.duration_ms),
        "Ended": row.tone or "ok",
        "Why": row.note,
    }


def _drawn(row: SpanRow, place: int, total: float) -> Row:
    end = max(row.end_ms, row.start_ms + total * _LEAST_WIDTH)
    said = text.duration(row.duration_ms) + (f"  {text.clipped(row.note, MAX_NOTE_CHARS)}" if row.note else "")
    # A long reason at a bar that ends far right would run out of the picture: it then stands left of the bar.
    long_and_late = len(said) > 12 and row.end_ms > total * 0.6 and row.start_ms > total * 0.4
    return {
        "place": place,
        "indent": row.depth * INDENT_PX - LABELS_PX,
        "label": text.clipped(row.label, MAX_LABEL_CHARS - row.depth),
        "name": row.name,
        "depth": row.depth,
        "start": row.start_ms,
        "end": end,
        "at": row.start_ms if long_and_late else end,
        "side": "left" if long_and_late else "right",
        "phase": row.phase,
        "tone": row.tone,
        "status": row.tone or "ok",
        "said": said,
        "note": row.note or text.NONE,
        "start_said": text.duration(row.start_ms),
        "duration_said": text.duration(row.duration_ms),
    }


def _room(drawn: Sequence[Row], total: float) -> float:
    """How far the axis reaches beyond the total, so that the words at the ends of bars have a place."""
    wanted: list[float] = [
        row["at"] / total / (1 - (len(row["said"]) * _CHAR_PX + 12) / _PLOT_PX) for row in drawn if row["side"] == "right"
    ]
    return min(_MOST_ROOM, max([1.02, *wanted]))


def _ticks(total: float, wanted: int = 8) -> list[float]:
    """Round times from 0 to the total; none beyond it, where nothing happens any more."""
    rough = total / wanted
    power = 10.0 ** floor(log10(rough))
    step: float = next(power * each for each in (1, 2, 5, 10) if power * each >= rough)
    return [step * place for place in range(int(total / step) + 1)]


def _outlines(palette: Palette) -> Sequence[tuple[str, str, list[int]]]:
    """Error is a whole line and partial a dashed one, so that they differ without colour too."""
    return (("error", palette.error, []), ("partial", palette.broken, [5, 2]))


def _outline(tone: str, shade: str, dash: list[int], x: Spec, y: Spec, tips: list[Spec]) -> Spec:
    return {
        "transform": [{"filter": f"datum.tone === '{tone}'"}],
        "mark": {
            "type": "rect",
            "fillOpacity": 0,
            "fill": shade,
            "stroke": shade,
            "strokeWidth": 2,
            "strokeDash": dash,
            "cornerRadius": 2,
        },
        "encoding": {"x": x, "x2": {"field": "end"}, "y": y, "tooltip": tips},
    }


def _names(y: Spec, palette: Palette, tips: list[Spec]) -> Spec:
    return {
        "mark": {"type": "text", "align": "left", "baseline": "middle", "fontSize": 12.5},
        "encoding": {
            "x": {"field": "indent", "type": "quantitative", "scale": None},
            "y": y,
            "text": {"field": "label"},
            "color": {"condition": {"test": "datum.depth < 2", "value": palette.text}, "value": palette.muted},
            "tooltip": tips,
        },
    }


def _notes(x: Spec, y: Spec, palette: Palette, side: str) -> Spec:
    return {
        "transform": [{"filter": f"datum.side === '{side}'"}],
        "mark": {
            "type": "text",
            "align": "right" if side == "left" else "left",
            "baseline": "middle",
            "dx": -6 if side == "left" else 6,
            "fontSize": 12,
        },
        "encoding": {
            "x": {**x, "field": "at"},
            "y": y,
            "text": {"field": "said"},
            "color": {
                "condition": [
                    {"test": "datum.tone === 'error'", "value": palette.error},
                    {"test": "datum.tone === 'partial'", "value": palette.broken},
                ],
                "value": palette.muted,
            },
        },
    }


def _commit(trace: Trace, total: float, x: Spec, drawn: Sequence[Row], palette: Palette) -> list[Spec]:
    """The ground right of the first visible token, its line and its words; nothing where nothing was shown."""
    at = trace.first_visible_ms
    if at is None:
        return []
    early = at < total * 0.36
    row = {"from": at, "to": max(trace.total_ms, at), "said": COMMIT_LABEL, "place": drawn[-1]["place"]}
    line: Spec = {**x, "field": "from"}
    return [
        {
            "data": values([row]),
            "mark": {"type": "rect", "color": palette.after_commit},
            "encoding": {"x": line, "x2": {"field": "to"}},
        },
        {
            "data": values([row]),
            "mark": {"type": "rule", "strokeDash": [3, 3], "strokeWidth": 1.4, "color": palette.text},
            "encoding": {"x": line},
        },
        {
            "data": values([row]),
            "mark": {
                "type": "text",
                "align": "left" if early else "right",
                "baseline": "top",
                "dx": 6 if early else -6,
                "dy": 11,
                "fontStyle": "italic",
                "fontSize": 12,
                "color": palette.text,
            },
            "encoding": {"x": line, "y": {"value": len(drawn) * ROW_PX - 8}, "text": {"field": "said"}},
        },
    ]


def _alt(trace: Trace) -> str:
    spans = text.plural(len(trace.rows), "span")
    longest = max(trace.rows[1:] or trace.rows, key=lambda row: row.duration_ms)
    broken = [f"{row.label} ({row.note or row.tone})" for row in trace.rows if row.tone]
    visible = (
        f"the first token was visible at {text.duration(trace.first_visible_ms)}"
        if trace.first_visible_ms is not None
        else "no text was shown"
    )
    ended = f"ended badly: {'; '.join(broken)}" if broken else "no span failed"
    return f"{spans} over {text.duration(trace.total_ms)}; {visible}; longest below the root: {longest.label}, {text.duration(longest.duration_ms)}; {ended}."
