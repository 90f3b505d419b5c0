"""The login: who the visitor is, the page that asks for it, and the way back to the address that was wanted.

Streamlit's own `st.login` does the protocol; `access` decides. Invariant: `require` stands before every answer of `data`, so no page and no panel shows a row to somebody who may not see it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import streamlit as st

from dashboard import text
from dashboard.access import Entry, entry
from dashboard.client import DashboardError
from dashboard.settings import settings

_KEPT = "lastword-wanted"
_KEEP_JS = f"""
export default function () {{
  sessionStorage.setItem("{_KEPT}", location.pathname + location.search);
}}
"""
_RETURN_JS = f"""
export default function () {{
  const wanted = sessionStorage.getItem("{_KEPT}");
  sessionStorage.removeItem("{_KEPT}");
  if (wanted && /^\\/(?!\\/)/.test(wanted) && wanted !== location.pathname + location.search) location.replace(wanted);
}}
"""
"""The provider sends everybody back to the root: the address that was opened waits in the tab."""


class NotLoggedIn(DashboardError):
    """The visitor may not see what was asked for, or no longer."""


def visit() -> Entry:
    """Whether the visitor of this session may enter, at this moment."""
    if not settings().oidc_issuer:
        return Entry.ADMITTED
    return entry(st.user.to_dict(), settings(), datetime.now(UTC))


def require() -> None:
    """Lets pass whoever may enter.

    Raises:
        NotLoggedIn: the visitor may not.
    """
    if visit() is not Entry.ADMITTED:
        raise NotLoggedIn("nobody is logged in here, or the login has ended")


def page(verdict: Entry) -> None:
    """Asks for a login, or says why one is not enough."""
    _component("keep", _KEEP_JS)(key="login-keep")
    with st.container(key="login", width=460, gap="small"):
        st.markdown("# Lastword", anchors=False)
        if verdict in {Entry.NOT_LISTED, Entry.UNVERIFIED}:
            _refused(verdict)
            return
        if verdict is Entry.EXPIRED:
            st.markdown(f"Your login has ended: one lasts {text.plural(settings().oidc_session_h, 'hour')}.")
        else:
            st.markdown("Whether streamed answers arrive whole. These pages are for people who are logged in.")
        st.button(
            f"Log in at {urlsplit(settings().oidc_issuer).hostname}", type="primary", icon=":material/login:", on_click=st.login
        )


def _refused(verdict: Entry) -> None:
    address = text.plain(_said("email") or "an identity without an e-mail address")
    st.markdown(f"You are logged in as **{address}**, and this address is not among those that may see the dashboard.")
    if verdict is Entry.UNVERIFIED:
        st.caption("The provider does not say that the address is verified, so it does not count.")
    st.caption("Whoever runs the dashboard keeps the list.")
    st.button("Log out", icon=":material/logout:", on_click=st.logout)


def draw() -> None:
    """Who is logged in, and the way out; nothing where there is no login. Goes on to the address that was wanted before the login."""
    if not settings().oidc_issuer:
        return
    if not st.query_params:
        _component("return", _RETURN_JS)(key="login-return")
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="right", gap="small", key="visitor"):
        st.caption(text.plain(_said("name") or _said("email")), width="content")
        st.button("Log out", type="tertiary", icon=":material/logout:", on_click=st.logout)


def _said(claim: str) -> str:
    return str(st.user.to_dict().get(claim) or "")


@cache
def _component(name: str, js: str) -> Any:
    return st.components.v2.component(f"lastword_login_{name}", js=js, isolate_styles=False)
