"""The Overview's cards as HTML: a figure with its change and its line, and a route with its rate over time.

Each row of cards is one piece of HTML: a dozen of Streamlit's elements with a chart each took most of a redraw. Every value is escaped here.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from msgspec import Struct

TONES = {"better": "lw-better", "worse": "lw-worse", "": ""}


class FigureCard(Struct, frozen=True, kw_only=True):
    """A figure: name, value, signed change (or none), what it means; `tone` is a key of TONES, `picture` is SVG already."""

    label: str
    value: str
    change: str | None
    tone: str
    meaning: str
    picture: str


class RouteCard(Struct, frozen=True, kw_only=True):
    """A route: its link (none for turns without a route), whether the page is filtered on it, what its rate is and of what; `picture` is SVG already.

    `top` is the scale's end as text, `ticks` the times under it.
    """

    name: str
    address: str | None
    chosen: bool
    rate: str
    of: str
    alt: str
    picture: str
    top: str
    ticks: tuple[str, ...]


def figure_cards(cards: Iterable[FigureCard]) -> str:
    """A row of figures."""
    return f'<div class="lw-cards lw-five">{"".join(_figure(card) for card in cards)}</div>'


def _figure(card: FigureCard) -> str:
    arrow = {"+": "↑ ", "-": "↓ ", "−": "↓ "}.get((card.change or " ")[0], "")
    change = f'<p class="lw-change {TONES[card.tone]}">{arrow}{escape(card.change)}</p>' if card.change else ""
    return (
        f'<div class="lw-figure"><p class="lw-name">{escape(card.label)} {_hint(card.label, card.meaning)}</p>'
        f'<p class="lw-value">{escape(card.value)}</p>{change}{card.picture}</div>'
    )


def _hint(label: str, meaning: str) -> str:
    return (
        f'<button type="button" class="lw-hint" aria-label="{escape(label)}: {escape(meaning)}"><span aria-hidden="true">?</span>'
        f'<span class="lw-tip" aria-hidden="true">{escape(meaning)}</span></button>'
    )


def route_cards(cards: Iterable[RouteCard]) -> str:
    """Routes beside each other, as many in a row as have room."""
    return f'<div class="lw-cards">{"".join(_route(card) for card in cards)}</div>'


def _route(card: RouteCard) -> str:
    address = escape(card.address or "")
    says = "Show all routes again" if card.chosen else f"Show only {card.name}"
    name = (
        f'<a class="lw-link" href="{address}" data-open="{address}" target="_self" title="{escape(says)}">{escape(card.name)}</a>'
        + ('<span class="lw-tag">chosen: all again</span>' if card.chosen else "")
        if card.address
        else f'<span title="These turns never ended, or ended before a route was chosen.">{escape(card.name)}</span>'
    )
    ticks = "".join(f"<span>{escape(tick)}</span>" for tick in card.ticks)
    return (
        f'<div class="lw-route"><p class="lw-name">{name}</p><p class="lw-said"><strong>{escape(card.rate)}</strong> {escape(card.of)}</p>'
        f'<div class="lw-plot" role="img" aria-label="{escape(card.alt)}"><span class="lw-top">{escape(card.top)}</span>'
        f'<span class="lw-zero">0</span>{card.picture}<div class="lw-ticks">{ticks}</div></div></div>'
    )
