"""Named queries, run once for all who ask the same: the pages' only way to rows.

Owns the process's one connection to the collector and the bounded cache of results. Failures are never cached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

import streamlit as st

from dashboard import queries
from dashboard.client import Collector, CollectorStatus, Params, Result
from dashboard.settings import settings
from dashboard.state import View, only


@cache
def collector() -> Collector:
    """The connection pool, made at first use and shared by all sessions."""
    return Collector(settings())


@cache
def _cached() -> Callable[[str, tuple[tuple[str, str | int | float | bool | None], ...]], Result]:
    # Made at first use, because its limits are settings.
    @st.cache_data(ttl=settings().cache_s, max_entries=settings().max_cached_results, show_spinner=False)
    def run(name: str, params: tuple[tuple[str, str | int | float | bool | None], ...]) -> Result:
        return collector().query(queries.load(name), dict(params))

    return run


def fetch(name: str, params: Params) -> Result:
    """The result of a named query with exactly the parameters that it takes, out of those given.

    Raises:
        DashboardError: the query failed; a panel shows it as failed.
    """
    wanted = only(queries.parameters(name), params)
    return _cached()(name, tuple(sorted(wanted.items())))


def fetch_view(name: str, view: View, extra: Mapping[str, str | int] | None = None) -> Result:
    """The result of a query about a window."""
    return fetch(name, {**view.params(), **(extra or {})})


def forget() -> None:
    """Drops all cached results: a retry must ask again."""
    _cached().clear()  # type: ignore[attr-defined]  # the decorator adds it, its type does not show through the annotation


def status() -> CollectorStatus:
    """How fresh the data is, asked anew each time."""
    return collector().status()
