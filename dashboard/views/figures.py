"""The five figures on top of the Overview: value, change against the window before, and a sparkline.

A change has a colour only where it is more than chance; it always has a sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import streamlit as st
from msgspec import Struct

from dashboard import stats, text
from dashboard.cards import FigureCard, figure_cards
from dashboard.charts import small
from dashboard.components import show
from dashboard.state import View

Row = Mapping[str, Any]

NOTABLE_CHANGE = 0.1
"""Of a latency: less is the daily up and down."""

_LATENCIES = (
    ("First token p95", "first_token_p95_ms", "From acceptance to the first visible token; 95 of 100 turns were faster."),
    ("Total p95", "total_p95_ms", "From acceptance to the terminal; 95 of 100 turns were faster."),
)


class Figure(Struct, frozen=True, kw_only=True):
    """One card. `more_is` is empty where the change may be chance, and then grey."""

    label: str
    value: str
    change: str | None
    line: list[float]
    meaning: str
    more_is: Literal["", "better", "worse"] = ""
    kind: Literal["line", "bar"] = "line"


def draw(view: View, now: Row, before: Row | None, buckets: Sequence[Row], tools: Sequence[Row]) -> None:
    """Draws the cards from the rows of `overview.sql` and `tools.sql`."""
    show(figure_cards(_card(figure) for figure in figures(view, now, before, buckets, tools)), key="figure-cards")
    length = text.span(view.length)
    st.caption(
        f"Change against the {length} before; grey where it may be chance."
        if before
        else f"Too few turns in the {length} before to compare with."
    )


def figures(view: View, now: Row, before: Row | None, buckets: Sequence[Row], tools: Sequence[Row]) -> list[Figure]:
    """The cards as values."""
    steps = stats.bucketed(
        buckets,
        start_ms=view.start_ms,
        end_ms=view.end_ms,
        bucket_ms=view.bucket_ms,
        factor=stats.merge_factor(now["turns"], view.buckets),
    )
    return [
        Figure(
            label="Turns",
            value=text.count(now["turns"]),
            change=text.change_of(now["turns"], before["turns"] if before else None),
            line=[float(step.turns) for step in steps],
            meaning="Turns that ended in the window.",
            kind="bar",
        ),
        _partial_rate(now, before, [step.rate for step in steps]),
        *(
            Figure(
                label=label,
                value=text.duration(now[field]),
                change=text.change_of(now[field], before[field] if before else None),
                line=stats.filled(buckets, field, view.buckets),
                meaning=meaning,
                more_is="worse" if before and _moved(now[field], before[field]) else "",
            )
            for label, field, meaning in _LATENCIES
        ),
        _tools_with_results(view, tools, compare=before is not None),
    ]


def _partial_rate(now: Row, before: Row | None, line: list[float]) -> Figure:
    rate = now["broken"] / now["turns"]
    notable = before and stats.differ(now["broken"], now["turns"], before["broken"], before["turns"])
    return Figure(
        label="Partial rate",
        value=text.share(rate),
        change=text.change_in_points(rate, before["broken"] / before["turns"] if before else None),
        line=line,
        meaning=f"{now['broken']:,} of {now['turns']:,} turns ended partial, abandoned or in error for a reason on our side. "
        f"Not among them: {text.plural(now['client_left'], 'reader')} who left or cancelled.",
        more_is="worse" if notable else "",
    )


def _tools_with_results(view: View, tools: Sequence[Row], *, compare: bool) -> Figure:
    """Of all calls of tools, those that returned usable evidence."""
    whole = {row["period"]: row for row in tools if row["bucket"] is None and row["name"] is None}
    now, before = whole.get("now"), whole.get("before") if compare else None
    shared = [{**row, "share": row["results"] / row["calls"]} for row in tools if row["bucket"] is not None]
    share = now["results"] / now["calls"] if now else None
    notable = now and before and stats.differ(now["results"], now["calls"], before["results"], before["calls"])
    return Figure(
        label="Tools with results",
        value=text.share(share),
        change=text.change_in_points(share, before["results"] / before["calls"] if before else None),
        line=stats.filled(shared, "share", view.buckets),
        meaning=f"{now['results']:,} of {now['calls']:,} tool calls returned usable evidence."
        if now
        else "No tool was called.",
        more_is="better" if notable else "",
    )


def _moved(now: float | None, before: float | None) -> bool:
    return bool(now and before and abs(now / before - 1) >= NOTABLE_CHANGE)


def _card(figure: Figure) -> FigureCard:
    picture = ""
    if len(figure.line) > 1:
        picture = (small.bars if figure.kind == "bar" else small.line)(figure.line)
    return FigureCard(
        label=figure.label,
        value=figure.value,
        change=figure.change,
        tone=figure.more_is and ("worse" if figure.change and _is_worse(figure) else "better"),
        meaning=figure.meaning,
        picture=picture,
    )


def _is_worse(figure: Figure) -> bool:
    rises = (figure.change or "").startswith("+")
    return rises == (figure.more_is == "worse")
