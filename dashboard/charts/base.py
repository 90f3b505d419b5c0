"""What all charts share: the result's type, axes of time, and tooltips.

Colours of text, grid and ground come from Streamlit's own theme; a chart names only the colours that carry meaning.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from dashboard.palette import Palette

Spec = dict[str, Any]
Row = dict[str, Any]

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""Names the grammar; nothing fetches it."""

ZOOM = "zoom"
"""The name of the selection that a drag across a chart of time makes."""

_DAY_MS = 86_400_000


class Chart(Struct, frozen=True):
    """A chart ready to show. `rows` is its data for reading: the keys are the column headings."""

    spec: Spec
    alt: str
    rows: list[Row]


def top_level(spec: Spec, *, height: int | None = None) -> Spec:
    """A whole specification: schema, width of the page, no own ground."""
    whole: Spec = {"$schema": SCHEMA, "width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    if height is not None:
        whole["height"] = height
    if "data" in spec:
        # One level down, where Streamlit leaves it: data at the top is sent apart from the chart, which is first drawn without any.
        return whole | {"layer": [spec]}
    return whole | spec


def time_axis(start_ms: int, end_ms: int, *, ticks: int = 8, labels: bool = True) -> Spec:
    """An x encoding from `start_ms`, in the reader's time zone and 24-hour clock."""
    length_ms = end_ms - start_ms
    day_format = "%d %b" if length_ms > 3 * _DAY_MS else "%d %b %H:%M"
    form = day_format if length_ms > _DAY_MS else ("%H:%M" if length_ms > 600_000 else "%H:%M:%S")
    axis: Spec | None = {
        "format": form,
        "title": None,
        "grid": False,
        "tickCount": ticks,
        "labelOverlap": True,
        "labelFlush": True,
        "labels": labels,
    }
    return {
        "field": "start_ms",
        "type": "temporal",
        "scale": {"nice": False},
        "axis": axis,
    }


def drag(name: str, encodings: Sequence[str], palette: Palette) -> Spec:
    """A selection that a drag makes, an interval of the encodings."""
    box = {"fill": palette.accent, "fillOpacity": 0.12, "stroke": palette.accent, "strokeOpacity": 0.7}
    return {"name": name, "select": {"type": "interval", "encodings": list(encodings), "mark": box}}


def rows_axis(field: str, order: Sequence[str], *, label_px: int = 210, grid: bool = False) -> Spec:
    """A y encoding with a row per name, in the order that is given, and no line but the grid's."""
    axis = {"title": None, "grid": grid, "ticks": False, "domain": False, "labelLimit": label_px, "labelPadding": 8}
    return {"field": field, "type": "nominal", "sort": list(order), "axis": axis}


def shared(channel: Spec) -> Spec:
    """A channel for the further layers of a chart: they use the scale and the axis of the first, which alone defines them."""
    return {name: value for name, value in channel.items() if name not in {"scale", "axis", "sort"}}


def tooltip(*fields: tuple[str, str]) -> list[Spec]:
    """A tooltip of texts that are made already: pairs of field and title."""
    return [{"field": field, "title": title, "type": "nominal"} for field, title in fields]


def values(rows: Sequence[Row]) -> Spec:
    """Inline data."""
    return {"values": list(rows)}
