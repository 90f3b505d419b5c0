"""The script that Streamlit runs: page configuration, looks, navigation. Everything else is in the views."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import nav
from dashboard.views import overview, turn

_LOOKS = Path(overview.__file__).parent.with_name("style.css")

# No page icon: Streamlit would fetch a Material icon from outside, and an emoji is drawn differently everywhere.
st.set_page_config(page_title="Lastword", layout="wide", menu_items={"Get help": None, "Report a bug": None, "About": None})
st.html(_LOOKS)

PAGES = {
    nav.OVERVIEW: st.Page(overview.page, title="Overview", icon=":material/monitoring:", default=True),
    nav.TURN: st.Page(turn.page, title="Turn", icon=":material/account_tree:", url_path="turn"),
}
nav.register(PAGES)
st.navigation(list(PAGES.values()), position="top").run()
