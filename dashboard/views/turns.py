"""Turns: show me them. A list that is paged on the server, and narrowed by what a chart of another page was asked for.

Everything stands in the URL: the pick, the page, and each thing that narrows the list, which can be taken away one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any
from urllib.parse import urlencode

import streamlit as st

from dashboard import data, filters, nav, panels, text, url
from dashboard.panels import Empty
from dashboard.settings import settings
from dashboard.stages import LABELS
from dashboard.state import View
from dashboard.views import window
from dashboard.views.overview import PICKS

Row = Mapping[str, Any]

_PAGE = "page"
_NEEDLE = "q"
_LOW, _HIGH = "low", "high"
_STAGE, _TOOL, _OUTCOME, _SOURCES = "stage", "tool", "outcome", "sources"
_EXACT = {"model": "model", "version": "version", "instance": "process", "tools": "tools"}
"""Parameters that one column is compared with, and how they read."""
_LARGEST_MS = 10**9


def page() -> None:
    """Draws the page."""
    refresh_s = window.head("Show me the turns")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="turns-head"):
        pick = window.choice("Which turns", filters.PICK, PICKS)
        st.space("stretch")
        needle = st.text_input(
            "Turn, trace or conversation id",
            placeholder="Find by turn, trace or conversation id",
            icon=":material/search:",
            max_chars=200,
            width=420,
            label_visibility="collapsed",
        )
    if needle and needle.strip():
        # What is looked for by its id may lie outside of the window: that is the other page's search.
        st.switch_page(nav.page(nav.TURN), query_params={_NEEDLE: needle.strip(), **filters.kept()})
    narrowing = _narrowing()
    if narrowing:
        _chips(narrowing)
    panels.panel("turns", "", lambda: _turns(pick), height_px=500, refresh_s=refresh_s)


def _bounds() -> tuple[int, int]:
    def number(name: str, default: int) -> int:
        value = url.get(name)
        return min(int(value), _LARGEST_MS) if value.isascii() and value.isdecimal() else default

    return number(_LOW, 0), number(_HIGH, _LARGEST_MS)


def _narrowing() -> dict[str, str]:
    """What narrows the list besides the filters: the parameter of the URL that goes with it, and how it reads."""
    said: dict[str, str] = {}
    if url.get(filters.REASON):
        said[filters.REASON] = f"reason {url.get(filters.REASON)}"
    if url.get(_STAGE) in LABELS:
        low, high = _bounds()
        upper = f" to {text.duration(high)}" if high < _LARGEST_MS else " or more"
        said[_STAGE] = f"{LABELS[url.get(_STAGE)]} {text.duration(low)}{upper}"
    if url.get(_TOOL):
        said[_TOOL] = f"tool {url.get(_TOOL)}" + (f", {url.get(_OUTCOME)}" if url.get(_OUTCOME) else "")
    if _sources() is not None:
        said[_SOURCES] = text.plural(_sources() or 0, "source")
    said |= {name: f"{word} {url.get(name)}" for name, word in _EXACT.items() if url.get(name)}
    return said


def _sources() -> int | None:
    value = url.get(_SOURCES)
    return min(int(value), _LARGEST_MS) if value.isascii() and value.isdecimal() else None


def _chips(narrowing: Mapping[str, str]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="narrowing"):
        st.caption("Only turns with", width="content")
        for name, said in narrowing.items():
            st.button(said, key=f"drop-{name}", icon=":material/close:", help="Take away", on_click=_drop, args=(name,))


def _drop(name: str) -> None:
    gone = {_STAGE: (_STAGE, _LOW, _HIGH), _TOOL: (_TOOL, _OUTCOME)}.get(name, (name,))
    url.put(dict.fromkeys((*gone, _PAGE)))


def _asked(view: View, pick: str, at: int) -> dict[str, str | int | None]:
    low, high = _bounds()
    return {
        **view.params(),
        "pick": pick,
        "reason": url.get(filters.REASON) or None,
        "stage": url.get(_STAGE) if url.get(_STAGE) in LABELS else None,
        "low_ms": low,
        "high_ms": high,
        "tool": url.get(_TOOL) or None,
        "outcome": url.get(_OUTCOME) or None,
        "sources": _sources(),
        **{name: url.get(name) or None for name in _EXACT},
        "limit": settings().turns_page,
        "offset": (at - 1) * settings().turns_page,
    }


def _page_number() -> int:
    value = url.get(_PAGE)
    return max(1, min(int(value), settings().max_turn_pages)) if value.isascii() and value.isdecimal() else 1


def _turns(pick: str) -> None:
    view, at = filters.current_view(), _page_number()
    rows = data.fetch("turn_list", _asked(view, pick, at)).rows
    if not rows:
        if at > 1:
            raise Empty(f"**There is no page {at}.** The list became shorter; go back to its [first page](?{_first_page()}).")
        window.overview(view)  # says why where the window has no turns at all
        raise Empty(f"**No turn of the {view.label} is like that.** Take a filter away, or choose a longer window.")
    found: int = rows[0]["found"]
    first = (at - 1) * settings().turns_page + 1
    st.caption(f"{first:,} to {first + len(rows) - 1:,} of {text.plural(found, 'turn')}, {_order(pick)}. A row opens its turn.")
    window.turn_list(rows, f"turn-list-{at}")
    _pager(at, ceil(found / settings().turns_page))


def _order(pick: str) -> str:
    return {"newest": "newest first", "slowest": "slowest first", "broken": "those that broke, newest first"}[pick]


def _first_page() -> str:
    return urlencode({name: value for name, value in st.query_params.to_dict().items() if name != _PAGE})


def _pager(at: int, pages: int) -> None:
    last = min(pages, settings().max_turn_pages)
    if pages > 1:
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="pager"):
            for label, to, icon in (
                ("Before", at - 1, ":material/chevron_left:"),
                ("Next", at + 1, ":material/chevron_right:"),
            ):
                st.button(label, key=f"page-{label}", icon=icon, disabled=not 1 <= to <= last, on_click=_go, args=(to,))
            st.caption(f"Page {at:,} of {last:,}", width="content")
    if pages > last:
        shown = last * settings().turns_page
        st.caption(f"Paging ends after {shown:,} turns: choose a shorter window or a filter, or ask on the SQL page.")


def _go(to: int) -> None:
    url.put({_PAGE: None if to == 1 else str(to)})
