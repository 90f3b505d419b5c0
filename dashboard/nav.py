"""The pages by name, so that one can lead to another without importing it, and the row of links on top.

The links are our own, because Streamlit's navigation drops the filters from the address; with them the window goes along.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn
from urllib.parse import parse_qsl, urlsplit

import streamlit as st

from dashboard import login

OVERVIEW = "overview"
PARTIALS = "partials"
STAGES = "stages"
EVIDENCE = "evidence"
TURNS = "turns"
TURN = "turn"
SQL = "sql"
ALERTS = "alerts"
PIPELINE = "pipeline"
_KEY = "_pages"


def register(pages: Mapping[str, st.Page]) -> None:
    """Notes this run's pages."""
    st.session_state[_KEY] = dict(pages)


def page(name: str) -> st.Page:
    """A page of this run."""
    found: st.Page = st.session_state[_KEY][name]
    return found


def draw(kept: Mapping[str, str]) -> None:
    """The row of links, in the order of the pages; each carries the filters along. Who is logged in stands at its end."""
    pages: dict[str, st.Page] = st.session_state[_KEY]
    with st.container(horizontal=True, gap="xxsmall", key="nav"):
        for each in pages.values():
            st.page_link(each, query_params=dict(kept), width="content")
        login.draw()


def open_turn(turn_id: str, kept: Mapping[str, str]) -> NoReturn:
    """Goes to a turn's page."""
    st.switch_page(page(TURN), query_params={"id": turn_id, **kept})


def follow(link: str, kept: Mapping[str, str]) -> NoReturn:
    """Goes where a link of our HTML leads: an address of one of the pages, or else a turn's id."""
    if not link.startswith("/"):
        open_turn(link, kept)
    parts = urlsplit(link)
    st.switch_page(page(parts.path.strip("/") or OVERVIEW), query_params=dict(parse_qsl(parts.query)))
