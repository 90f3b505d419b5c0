"""The pages by name, so that one can lead to another without importing it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

import streamlit as st

OVERVIEW = "overview"
TURN = "turn"
_KEY = "_pages"


def register(pages: Mapping[str, st.Page]) -> None:
    """Notes this run's pages."""
    st.session_state[_KEY] = dict(pages)


def page(name: str) -> st.Page:
    """A page of this run."""
    found: st.Page = st.session_state[_KEY][name]
    return found


def open_turn(turn_id: str, kept: Mapping[str, str]) -> NoReturn:
    """Goes to a turn's page."""
    st.switch_page(page(TURN), query_params={"id": turn_id, **kept})
