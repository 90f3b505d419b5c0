"""The partial rate over time, as steps with their Wilson interval; and the same, small, for one route.

A bucket of few turns is hollow and dashed: its rate may be chance. An interval is drawn for every bucket that has turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from msgspec import Struct

from dashboard import text
from dashboard.charts import small
from dashboard.charts.base import ZOOM, Chart, Row, Spec, drag, shared, time_axis, tooltip, top_level, values
from dashboard.palette import Palette
from dashboard.stats import Bucket, nice_ceiling, wilson

HEIGHT_PX = 190
_DAYS_MS = 2 * 86_400_000
_LEAST_TOP = 0.05


class Words(Struct, frozen=True, kw_only=True):
    """How a rate over time is spoken of: its name, what is counted, what it is counted of, and when that happened."""

    rate: str
    counted: str
    of: str
    when: str = "Ended"


class Small(Struct, frozen=True, kw_only=True):
    """A small multiple: its picture, its sentence, and the times under it."""

    svg: str
    alt: str
    ticks: tuple[str, ...]


PARTIAL = Words(rate="partial rate", counted="partial turn", of="turn")


def top_of_scale(runs: Sequence[Sequence[Bucket]]) -> float:
    """The upper end of a rate axis that several runs of buckets share: room for every trusted rate and its interval's better part."""
    rates = [bucket.rate for run in runs for bucket in run if bucket.turns and not bucket.thin]
    uppers = [wilson(bucket.broken, bucket.turns)[1] for run in runs for bucket in run if bucket.turns and not bucket.thin]
    thin = [bucket.rate for run in runs for bucket in run if bucket.turns and bucket.thin] if not rates else []
    peak = max([*rates, *thin], default=0.0)
    return nice_ceiling(max(_LEAST_TOP, peak * 1.15, min(max(uppers, default=0.0), peak * 1.6)))


def partial_rate(
    buckets: Sequence[Bucket],
    palette: Palette,
    tz: tzinfo,
    words: Words = PARTIAL,
    incidents: Sequence[tuple[int, int]] = (),
) -> Chart:
    """Partial rate by bucket, or another share in other words. Every bucket of the window is given, those without turns too.

    `incidents` are the ground behind it: beginning and end in milliseconds since 1970.

    Returns:
        A chart whose selection `zoom` is an interval of time.
    """
    top = top_of_scale([buckets])
    rows = [_row(bucket, top, tz) for bucket in buckets if bucket.turns]
    turns, broken = sum(bucket.turns for bucket in buckets), sum(bucket.broken for bucket in buckets)
    mean = broken / turns if turns else 0.0
    x = time_axis(buckets[0].start_ms, buckets[-1].end_ms)
    y: Spec = {
        "type": "quantitative",
        "scale": {"domain": [0, top], "nice": False, "clamp": True},
        "axis": {"format": ".0%" if top > 0.06 else ".1~%", "title": None, "tickCount": 4},
    }
    mean_row = {"mean": mean, "said": f"window {text.share(mean)}", "end_ms": buckets[-1].end_ms}
    layers = [
        *_steps(x, y, palette, buckets, _ground(incidents, buckets)),
        {
            "data": values([mean_row]),
            "mark": {"type": "rule", "strokeDash": [2, 3], "color": palette.muted, "opacity": 0.9},
            "encoding": {"y": {**shared(y), "field": "mean"}},
        },
        {
            "data": values([mean_row]),
            "mark": {
                "type": "text",
                "align": "right",
                "baseline": "bottom",
                "dx": -4,
                "dy": -3,
                "color": palette.muted,
                "fontSize": 12,
            },
            "encoding": {"x": {**shared(x), "field": "end_ms"}, "y": {**shared(y), "field": "mean"}, "text": {"field": "said"}},
        },
        {
            "mark": {"type": "rect", "opacity": 0, "tooltip": True},
            "params": [drag(ZOOM, ["x"], palette)],
            "encoding": {
                "x": shared(x),
                "x2": {"field": "end_ms"},
                "tooltip": tooltip(
                    ("when", words.when),
                    ("rate_said", words.rate.capitalize()),
                    ("interval", "95% interval"),
                    ("of", f"{words.of.capitalize()}s"),
                ),
            },
        },
    ]
    spec = top_level({"data": values(rows), "layer": layers}, height=HEIGHT_PX)
    return Chart(spec, _alt(buckets, mean, tz, words), [_reading(row, words) for row in rows])


def route_rate(buckets: Sequence[Bucket], top: float, tz: tzinfo, route: str) -> Small:
    """One small multiple: `top` is the scale's end, the same for all of them."""
    rows = [_row(bucket, top, tz) for bucket in buckets if bucket.turns]
    told = [{**row, "said": f"{row['when']}: {row['rate_said']}, 95% interval {row['interval']}, {row['of']}"} for row in rows]
    start_ms, end_ms = buckets[0].start_ms, buckets[-1].end_ms
    turns, broken = sum(bucket.turns for bucket in buckets), sum(bucket.broken for bucket in buckets)
    form = "%d %b" if end_ms - start_ms > _DAYS_MS else "%H:%M"
    return Small(
        svg=small.steps(told, start_ms, end_ms, top),
        alt=f"Route {route}: " + _alt(buckets, broken / turns if turns else 0.0, tz),
        ticks=tuple(
            f"{datetime.fromtimestamp(at / 1000, UTC).astimezone(tz):{form}}"
            for at in (start_ms, (start_ms + end_ms) / 2, end_ms)
        ),
    )


def _ground(incidents: Sequence[tuple[int, int]], buckets: Sequence[Bucket]) -> list[Row]:
    first, last = buckets[0].start_ms, buckets[-1].end_ms
    cut = [(max(start, first), min(end, last)) for start, end in incidents]
    return [{"start_ms": start, "end_ms": end, "word": "alert"} for start, end in cut if start < end]


def _steps(
    scaled_x: Spec, scaled_y: Spec, palette: Palette, buckets: Sequence[Bucket], ground: Sequence[Row] = ()
) -> list[Spec]:
    """Interval band, filled step, and the step's top edge; hollow and dashed where few turns stand behind it."""
    x2: Spec = {"field": "end_ms"}
    x, y = shared(scaled_x), shared(scaled_y)
    zero: Spec = {"field": "zero"}
    ends = [{"start_ms": buckets[0].start_ms, "zero": 0}, {"start_ms": buckets[-1].end_ms, "zero": 0}]
    layers: list[Spec] = [
        # Draws nothing and owns both scales, which reach over the whole window. Its ends are data and not a domain: a domain of dates is
        # compiled to a call that the browser's interpreter of expressions reads as a year.
        {
            "data": values(ends),
            "mark": {"type": "point", "opacity": 0, "tooltip": False},
            "encoding": {"x": scaled_x, "y": {**scaled_y, "field": "zero"}},
        },
        *_alert_layers(ground, x, palette),
        {
            "mark": {"type": "rect", "color": palette.neutral, "opacity": 0.13},
            "encoding": {"x": x, "x2": x2, "y": {**y, "field": "low"}, "y2": {"field": "high"}},
        },
    ]
    block: Spec = {"x": x, "x2": x2, "y": {**y, "field": "rate"}, "y2": zero}
    edge: Spec = {"x": x, "x2": x2, "y": {**y, "field": "rate"}}
    styles: tuple[tuple[str, bool, Spec, Spec], ...] = (
        (
            "!datum.thin",
            any(not bucket.thin for bucket in buckets),
            {"type": "rect", "color": palette.broken, "opacity": 0.3},
            block,
        ),
        (
            "datum.thin && datum.rate > 0",
            any(bucket.thin and bucket.broken for bucket in buckets),
            {"type": "rect", "filled": False, "stroke": palette.broken, "strokeDash": [2, 2], "strokeWidth": 1},
            block,
        ),
        (
            "!datum.thin",
            any(not bucket.thin for bucket in buckets),
            {"type": "rule", "color": palette.broken, "strokeWidth": 2, "strokeCap": "square"},
            edge,
        ),
        (
            "datum.thin && datum.rate === 0",
            any(bucket.thin and bucket.turns and not bucket.broken for bucket in buckets),
            {"type": "rule", "color": palette.broken, "strokeWidth": 1.5, "strokeDash": [2, 2]},
            edge,
        ),
    )
    # A layer that its filter leaves empty would have the browser warn of a scale without an extent.
    layers += [
        {"transform": [{"filter": which}], "mark": mark, "encoding": encoding} for which, some, mark, encoding in styles if some
    ]
    return layers


def _alert_layers(ground: Sequence[Row], x: Spec, palette: Palette) -> list[Spec]:
    """The time of each alert as a ground with a word, so that its colour is not all it has."""
    if not ground:
        return []
    return [
        {
            "data": values(ground),
            "mark": {"type": "rect", "color": palette.error, "opacity": 0.08, "tooltip": False},
            "encoding": {"x": x, "x2": {"field": "end_ms"}},
        },
        {
            "data": values(ground),
            "mark": {
                "type": "text",
                "align": "left",
                "baseline": "top",
                "dx": 4,
                "dy": 3,
                "fontSize": 11.5,
                "color": palette.error,
            },
            "encoding": {"x": x, "y": {"value": 0}, "text": {"field": "word"}},
        },
    ]


def _row(bucket: Bucket, top: float, tz: tzinfo) -> Row:
    low, high = wilson(bucket.broken, bucket.turns)
    return {
        "start_ms": bucket.start_ms,
        "end_ms": bucket.end_ms,
        "zero": 0,
        "rate": bucket.rate,
        "low": min(low, top),
        "high": min(high, top),
        "thin": bucket.thin,
        "when": f"{_clock(bucket.start_ms, tz)} to {_clock(bucket.end_ms, tz)}",
        "rate_said": text.share(bucket.rate),
        "interval": f"{text.share(low)} to {text.share(high)}",
        "of": f"{bucket.broken:,} of {bucket.turns:,}" + (" (few: may be chance)" if bucket.thin else ""),
    }


def _reading(row: Row, words: Words = PARTIAL) -> Row:
    return {
        words.when: row["when"],
        words.rate.capitalize(): row["rate_said"],
        "95% interval": row["interval"],
        f"{words.counted.capitalize()}s": row["of"],
    }


def _clock(ms: int, tz: tzinfo) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC).astimezone(tz):%d %b %H:%M:%S}"


def _alt(buckets: Sequence[Bucket], mean: float, tz: tzinfo, words: Words = PARTIAL) -> str:
    trusted = [bucket for bucket in buckets if bucket.turns and not bucket.thin]
    said = f"{words.rate[0].upper()}{words.rate[1:]} {text.share(mean)} over the window"
    if not trusted:
        return f"{said}; no step holds {text.plural(30, words.of)} or more, so single steps say little."
    worst = max(trusted, key=lambda bucket: bucket.rate)
    if worst.broken == 0:
        return f"{said}; no trusted step has a {words.counted}."
    low, high = wilson(worst.broken, worst.turns)
    return (
        f"{said}; highest {text.share(worst.rate)} ({worst.broken:,} of {text.plural(worst.turns, words.of)}, "
        f"95% interval {text.share(low)} to {text.share(high)}) in the step from {_clock(worst.start_ms, tz)}."
    )
