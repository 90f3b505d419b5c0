"""The row of filters, which is the URL: each control shows a query parameter, and a custom window stands in two more.

Owns the names of those parameters. `current_view` may be called from a fragment that refreshes: it reads the clock anew.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo

import streamlit as st

from dashboard import data, state, text, url
from dashboard.client import DashboardError
from dashboard.login import NotLoggedIn
from dashboard.settings import settings
from dashboard.state import ALL, CUSTOM, View
from lastword.events import CompletionStatus

WINDOW, ROUTE, TIER, STATUS, FROM, TO, PICK = "window", "route", "tier", "status", "from", "to", "pick"
REASON = "reason"
"""Of the Turns page alone: no other page narrows by it."""
KEPT = (WINDOW, ROUTE, TIER, STATUS, FROM, TO, PICK)
STATUSES: tuple[str, ...] = (*(status.value for status in CompletionStatus), "error", "abandoned")

_LABELS = {"15m": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h", "7d": "7 d"}
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
    return {name: value for name in KEPT if (value := url.get(name))}


def draw(*, narrowing: bool = True) -> None:
    """The controls. What they say is read by `current_view`, from the URL. Without `narrowing` only the window is offered."""
    custom = _custom()
    windows = [*state.PRESETS, *([CUSTOM] if custom else [])]
    window = CUSTOM if custom else _preset()
    routes, tiers = _offered() if narrowing else ((), ())
    offered = ((ROUTE, "Route", routes), (TIER, "Model tier", tiers), (STATUS, "Status", STATUSES)) if narrowing else ()
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="filters"):
        st.segmented_control(
            "Window",
            windows,
            required=True,
            format_func=lambda each: _LABELS.get(each) or _custom_label(custom),
            key=url.seed(WINDOW, window),
            on_change=_window_chosen,
        )
        for name, label, options in offered:
            value = url.get(name, ALL)
            key = url.seed(name, value if value in options else ALL)
            st.selectbox(label, (ALL, *options), key=key, width=168, on_change=url.chosen, args=(name, ALL))
        st.space("stretch")
        _freshness()


def current_view() -> View:
    """What the URL says, at this moment."""
    route, tier, status = url.get(ROUTE) or None, url.get(TIER) or None, _status()
    custom = _custom()
    if custom:
        return state.custom_view(custom[0], custom[1], route=route, tier=tier, status=status)
    return state.preset_view(_preset(), now(), settings().refresh_s, route=route, tier=tier, status=status)


def refresh_s(view: View) -> int | None:
    """How often panels ask again: never where the window stands still."""
    return settings().refresh_s if view.live else None


def zoom(start_ms: float, end_ms: float) -> None:
    """Makes the window a custom one. For callbacks, which run before the controls are drawn."""
    first, last = state.write_custom(start_ms, end_ms)
    url.put({WINDOW: CUSTOM, FROM: first, TO: last})


def choose_route(route: str) -> None:
    """Filters on a route, or on all again where it is chosen already. For callbacks."""
    url.put({ROUTE: None if url.get(ROUTE) == route else route})


def _status() -> str | None:
    value = url.get(STATUS)
    return value if value in STATUSES else None


def _preset() -> str:
    window = url.get(WINDOW)
    return window if window in state.PRESETS else state.DEFAULT_WINDOW


def _custom() -> tuple[datetime, datetime] | None:
    return state.read_custom(url.get(FROM), url.get(TO)) if url.get(WINDOW) == CUSTOM else None


def _custom_label(custom: tuple[datetime, datetime] | None) -> str:
    if custom is None:
        return CUSTOM
    first, last = (at.astimezone(zone()) for at in custom)
    return (
        f"{first:%d %b %H:%M} to {last:%H:%M}" if first.date() == last.date() else f"{first:%d %b %H:%M} to {last:%d %b %H:%M}"
    )


def _window_chosen() -> None:
    window = st.session_state.get(url.widget(WINDOW))
    if window != CUSTOM:
        url.put({WINDOW: None if window == state.DEFAULT_WINDOW else window, FROM: None, TO: None})


def _offered() -> tuple[Sequence[str], Sequence[str]]:
    """Routes and tiers to choose from: those of the last days, and what the URL names, so that a link keeps its filter."""
    since = (now() - timedelta(days=_OFFERED_DAYS)).replace(minute=0, second=0, microsecond=0)
    try:
        rows = data.offered({"since": since.isoformat(), "limit": _MAX_OFFERED})
    except DashboardError:
        rows = []  # each panel says that the collector does not answer; the filters keep what the URL holds
    return tuple(_with_url(ROUTE, rows, "route")), tuple(_with_url(TIER, rows, "model_tier"))


def _with_url(key: str, rows: Sequence[Mapping[str, str | None]], column: str) -> list[str]:
    found = {value for row in rows if (value := row[column])}
    named = url.get(key)
    return sorted(found | ({named} if named and named != ALL else set()))


@st.fragment(run_every="5s")
def _freshness() -> None:
    """How old the newest stored turn is, asked every few seconds whatever the window."""
    with st.container(key="freshness", horizontal=True, horizontal_alignment="right"):
        _freshness_badge()


def _freshness_badge() -> None:
    try:
        status = data.status()
    except NotLoggedIn:  # the panels say so
        return
    except DashboardError as error:
        st.badge("collector does not answer", icon=":material/cloud_off:", color="red", help=str(error))
        return
    newest, lag_ms = status.newest(now()), status.ingest_lag_ms
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
