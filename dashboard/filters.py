"""The row of filters, which is the URL: each control is bound to a query parameter, and a custom window stands in two more.

Owns the names of those parameters. `current_view` may be called from a fragment that refreshes: it reads the clock anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

import streamlit as st

from dashboard import data, state, text
from dashboard.client import DashboardError
from dashboard.settings import settings
from dashboard.state import ALL, CUSTOM, View
from lastword.events import CompletionStatus

WINDOW, ROUTE, TIER, STATUS, FROM, TO = "window", "route", "tier", "status", "from", "to"
KEPT = (WINDOW, ROUTE, TIER, STATUS, FROM, TO)
STATUSES: tuple[str, ...] = (*(status.value for status in CompletionStatus), "error", "abandoned")

_OFFERED_DAYS = 7
_MAX_OFFERED = 200


def now() -> datetime:
    """The time, in UTC."""
    return datetime.now(UTC)


def zone() -> tzinfo:
    """The reader's time zone."""
    return text.zone(st.context.timezone)


def kept() -> dict[str, str]:
    """The filters as they stand in the URL, to be carried along by links."""
    return {name: st.query_params[name] for name in KEPT if name in st.query_params}


def draw() -> None:
    """The controls. Their values are read by `current_view`."""
    custom = _custom_in_url()
    windows = [*state.PRESETS, *([CUSTOM] if custom else [])]
    routes, tiers = _offered()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="filters"):
        st.segmented_control(
            "Window",
            windows,
            default=state.DEFAULT_WINDOW,
            required=True,
            key=WINDOW,
            bind="query-params",
            on_change=_leave_custom,
            width="content",
        )
        for label, key, options in (
            ("Route", ROUTE, routes),
            ("Model tier", TIER, tiers),
            ("Status", STATUS, STATUSES),
        ):
            st.selectbox(label, (ALL, *options), key=key, bind="query-params", width=168)
        st.space("stretch")
        _freshness()


def current_view() -> View:
    """What the controls say, at this moment."""
    chosen = {
        "route": _chosen(ROUTE),
        "tier": _chosen(TIER),
        "status": _chosen(STATUS),
    }
    window = st.session_state.get(WINDOW) or state.DEFAULT_WINDOW
    custom = _custom_in_url() if window == CUSTOM else None
    if custom:
        return state.custom_view(*custom, **chosen)
    return state.preset_view(window, now(), settings().refresh_s, **chosen)


def refresh_s(view: View) -> int | None:
    """How often panels ask again: never where the window stands still."""
    return settings().refresh_s if view.live else None


def zoom(start_ms: float, end_ms: float) -> None:
    """Makes the window a custom one. For callbacks, which run before the controls are drawn."""
    st.query_params[FROM], st.query_params[TO] = state.write_custom(start_ms, end_ms)
    st.session_state[WINDOW] = CUSTOM


def choose_route(route: str) -> None:
    """Filters on a route, or on all again where it is chosen already. For callbacks."""
    st.session_state[ROUTE] = ALL if st.session_state.get(ROUTE) == route else route


def clear() -> None:
    """Takes away all filters but the window. For callbacks."""
    for key in (ROUTE, TIER, STATUS):
        st.session_state[key] = ALL


def _chosen(key: str) -> str | None:
    value = st.session_state.get(key)
    return None if value in (None, ALL) else str(value)


def _custom_in_url() -> tuple[datetime, datetime] | None:
    return state.read_custom(st.query_params.get(FROM), st.query_params.get(TO))


def _leave_custom() -> None:
    if st.session_state.get(WINDOW) != CUSTOM:
        for name in (FROM, TO):
            st.query_params.pop(name, None)


def _offered() -> tuple[Sequence[str], Sequence[str]]:
    """Routes and tiers to choose from: those of the last days, and what the URL names, so that a link keeps its filter."""
    since = (now() - timedelta(days=_OFFERED_DAYS)).replace(minute=0, second=0, microsecond=0)
    try:
        rows = data.fetch("filters", {"since": since.isoformat(), "limit": _MAX_OFFERED}).rows
    except DashboardError:
        rows = []  # each panel says that the collector does not answer; the filters keep what the URL holds
    return tuple(_with_url(ROUTE, rows, "route")), tuple(_with_url(TIER, rows, "model_tier"))


def _with_url(key: str, rows: Sequence[Mapping[str, str | None]], column: str) -> list[str]:
    found = {value for row in rows if (value := row[column])}
    named = {value for value in (st.query_params.get(key), st.session_state.get(key)) if value and value != ALL}
    return sorted(found | named)


@st.fragment(run_every="5s")
def _freshness() -> None:
    """How old the newest stored turn is, asked every few seconds whatever the window."""
    with st.container(key="freshness", horizontal=True, horizontal_alignment="right"):
        _freshness_badge()


def _freshness_badge() -> None:
    try:
        status = data.status()
    except DashboardError as error:
        st.badge("collector does not answer", icon=":material/cloud_off:", color="red", help=str(error))
        return
    newest, lag_ms = status.newest_turn_at, status.ingest_lag_ms
    if newest is None:
        st.badge("no turn stored yet", icon=":material/hourglass_empty:", color="gray", help="Run `make demo`.")
        return
    age = text.ago(newest, now())
    if lag_ms is not None and lag_ms > settings().fresh_lag_ms:
        st.badge(
            f"late: ingest lag {text.duration(lag_ms)}", icon=":material/schedule:", color="orange", help=f"Newest turn {age}."
        )
    elif (now() - newest).total_seconds() > settings().stale_after_s:
        st.badge(f"quiet: newest turn {age}", icon=":material/pause_circle:", color="gray")
    else:
        st.badge(f"live: newest turn {age}", icon=":material/bolt:", color="green")
