"""Turn, where there is none to show: a search, or why the one that was asked for is missing.

Owns the way from the beginning of an id to a turn's page.
"""

from __future__ import annotations

import streamlit as st

from dashboard import data, filters, markup, nav, panels, text, url
from dashboard.components import linked_html
from dashboard.panels import DEMO, Empty
from dashboard.settings import settings

_NEEDLE = "q"
_LEAST_NEEDLE = 4


def ways_out() -> None:
    """The links that lead away from a turn."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="turn-nav"):
        st.page_link(nav.page(nav.OVERVIEW), label="Overview", icon=":material/arrow_back:", query_params=filters.kept())
        st.page_link(nav.page(nav.TURN), label="Find another turn", icon=":material/search:", query_params=filters.kept())


def missing(turn_id: str) -> None:
    """A turn that has no row: it may still run, or never was."""
    rows = data.fetch("turn_open", {"turn_id": turn_id}).rows
    ways_out()
    if rows:
        row = rows[0]
        st.markdown(f"# {turn_id}", anchors=False)
        st.markdown(
            f":blue-badge[… running] Accepted {text.ago(row['started_at'], filters.now())}; it has "
            f"{text.duration(row['deadline_ms'])} until its deadline. Its record comes when it ends."
        )
        _reload()
        return
    raise Empty(
        f"**No turn `{turn_id}` is stored.** It may have been removed by retention, or its record is still on its way.", DEMO
    )


@st.fragment
def _reload() -> None:
    if st.button("Look again", icon=":material/refresh:"):
        data.forget()
        st.rerun()


def search() -> None:
    """Draws the search, and what it finds."""
    st.markdown("# Find a turn", anchors=False)
    st.text_input(
        "Turn, trace or conversation id",
        key=url.seed(_NEEDLE, url.get(_NEEDLE)),
        on_change=url.chosen,
        args=(_NEEDLE, ""),
        placeholder="trn_… or the beginning of a turn or trace id",
        icon=":material/search:",
        max_chars=200,
        width=560,
    )
    panels.guarded("find", _found, height_px=200)


def _found() -> None:
    needle = url.get(_NEEDLE).strip()
    if needle and len(needle) < _LEAST_NEEDLE:
        raise Empty(f"Give at least {_LEAST_NEEDLE} characters.")
    if needle:
        rows = data.fetch("find_turns", {"needle": needle, "limit": settings().max_found}).rows
    else:
        view = filters.current_view()
        rows = data.fetch_view("turns", view, {"pick": "broken", "limit": settings().max_found}).rows
        st.caption(f"Or open one of the turns that broke in the {view.label}:" if rows else "")
    if needle and not rows:
        raise Empty(f"**Nothing fits `{needle}`.** A turn id begins with `trn_`, a trace id has 32 hexadecimal digits.", DEMO)
    opened = (
        linked_html(markup.turn_table(rows, tz=filters.zone(), now=filters.now(), kept=filters.kept()), key="found")
        if rows
        else None
    )
    if needle and len(rows) == 1 and needle in (rows[0]["turn_id"], rows[0].get("trace_id")):
        opened = rows[0]["turn_id"]
    if opened:
        nav.open_turn(opened, filters.kept())
