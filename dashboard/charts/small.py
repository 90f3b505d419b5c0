"""Pictures so small that starting an engine of charts for each costs more than drawing it: the line under a figure, the steps of a route. They are SVG, coloured by `style.css`.

Pure. They stretch to the width of their card, so nothing in them is round, and no text is in them: what is to be read stands beside them as HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

WIDTH, HEIGHT = 100, 32
_LEAST = 0.02


def line(values: Sequence[float]) -> str:
    """Values in their order as a line, from the least to the greatest."""
    low, high = min(values), max(values)
    spread = high - low or 1.0
    step = WIDTH / max(1, len(values) - 1)
    points = " ".join(
        f"{place * step:.2f},{HEIGHT - 2 - (HEIGHT - 4) * (value - low) / spread:.2f}" for place, value in enumerate(values)
    )
    return _svg(f'<polyline points="{points}"/>')


def bars(values: Sequence[float]) -> str:
    """Values in their order as bars that stand on 0."""
    high = max(values) or 1.0
    step = WIDTH / len(values)
    return _svg(
        "".join(
            f'<rect x="{place * step:.2f}" y="{HEIGHT * (1 - value / high):.2f}" width="{step * 0.8:.2f}" height="{HEIGHT * value / high:.2f}"/>'
            for place, value in enumerate(values)
        )
    )


def steps(rows: Sequence[dict[str, object]], start_ms: int, end_ms: int, top: float) -> str:
    """Rates over time as steps under an axis that ends at `top`: the interval, the step, its upper edge; dashed and hollow where few turns stand behind it.

    Args:
        rows: `start_ms`, `end_ms`, `rate`, `low`, `high`, `thin`, and `said`, which is shown under the pointer.
        start_ms: where the picture begins, in milliseconds since 1970.
        end_ms: where it ends.
        top: the rate at the upper edge.
    """
    return _svg("".join(_step(row, start_ms, end_ms - start_ms, top) for row in rows))


def _step(row: dict[str, object], start_ms: int, length_ms: int, top: float) -> str:
    first, last, rate, low, high = (float(str(row[name])) for name in ("start_ms", "end_ms", "rate", "low", "high"))
    x, width = (first - start_ms) / length_ms * WIDTH, (last - first) / length_ms * WIDTH
    y, upper, lower = (HEIGHT * (1 - min(value, top) / top) for value in (rate, high, low))
    thin = " lw-thin" if row["thin"] else ""
    return (
        f'<g class="lw-step{thin}"><title>{escape(str(row["said"]))}</title>'
        f'<rect class="lw-band" x="{x:.2f}" y="{upper:.2f}" width="{width:.2f}" height="{max(lower - upper, _LEAST):.2f}"/>'
        f'<rect class="lw-fill" x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{max(HEIGHT - y, _LEAST):.2f}"/>'
        f'<line x1="{x:.2f}" x2="{x + width:.2f}" y1="{y:.2f}" y2="{y:.2f}"/></g>'
    )


def _svg(body: str) -> str:
    return f'<svg class="lw-small" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">{body}</svg>'
