"""The URL is the state: controls show what stands in it, and a change of a control changes it first.

Streamlit can bind a widget to a query parameter, but a bound parameter can neither be carried along to another page nor be set together with others in one step
of the history. So each control is set from the URL at every run, and its callback writes the URL; Back is then nothing special.
"""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st


def get(name: str, default: str = "") -> str:
    """A parameter as it stands in the URL."""
    value: str = st.query_params.get(name, default)
    return value


def put(values: Mapping[str, str | None]) -> None:
    """Changes several parameters in one step of the history; none removes one."""
    merged: dict[str, str | None] = {**st.query_params.to_dict(), **values}
    st.query_params.from_dict({name: value for name, value in merged.items() if value})


def widget(name: str) -> str:
    """The key of the control that shows a parameter."""
    return f"url-{name}"


def seed(name: str, value: object) -> str:
    """Makes the control show what the URL says; its key. To be called right before the control is drawn."""
    key = widget(name)
    if st.session_state.get(key) != value:
        st.session_state[key] = value
    return key


def chosen(name: str, default: str) -> None:
    """Writes a control's new value into the URL; a default needs no parameter. For callbacks."""
    value = st.session_state.get(widget(name))
    put({name: None if value in (None, "", default) else str(value)})
