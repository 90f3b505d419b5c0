"""The script that Streamlit runs: page configuration, looks, navigation. Everything else is in the views."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from dashboard import filters, login, nav
from dashboard.access import Entry
from dashboard.views import alerts, evidence, overview, partials, pipeline, sql, stages, turn, turns

_PACKAGE = Path(nav.__file__).parent
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="7" fill="#1f5fbf"/>'
    '<path d="M8 11h16M8 16h16M8 21h9" stroke="#fff" stroke-width="2.6" stroke-linecap="round"/>'
    '<circle cx="22.5" cy="21" r="2.4" fill="#ffb070"/></svg>'
)
"""Given as a picture: a named icon would be fetched from outside by every browser."""

st.set_page_config(
    page_title="Lastword", page_icon=_ICON, layout="wide", menu_items={"Get help": None, "Report a bug": None, "About": None}
)
st.html(_PACKAGE / "style.css")

PAGES = {
    nav.OVERVIEW: st.Page(overview.page, title="Overview", default=True),
    nav.PARTIALS: st.Page(partials.page, title="Partials", url_path="partials"),
    nav.STAGES: st.Page(stages.page, title="Stages", url_path="stages"),
    nav.EVIDENCE: st.Page(evidence.page, title="Evidence", url_path="evidence"),
    nav.TURNS: st.Page(turns.page, title="Turns", url_path="turns"),
    nav.TURN: st.Page(turn.page, title="Turn", url_path="turn"),
    nav.SQL: st.Page(sql.page, title="SQL", url_path="sql"),
    nav.ALERTS: st.Page(alerts.page, title="Alerts", url_path="alerts"),
    nav.PIPELINE: st.Page(pipeline.page, title="Pipeline", url_path="pipeline"),
}
nav.register(PAGES)
chosen = st.navigation(list(PAGES.values()), position="hidden")
verdict = login.visit()
if verdict is Entry.ADMITTED:
    nav.draw(filters.kept())
    chosen.run()
else:
    login.page(verdict)
