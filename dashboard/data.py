"""Named queries, run once for all who ask the same: the pages' only way to rows.

Owns the process's one connection to the collector and the bounded cache of results. Failures are never cached. Nobody is answered, not even from the cache, who may not see the pages.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import streamlit as st

from dashboard import login, queries
from dashboard.client import Collector, CollectorStatus, Params, Result
from dashboard.health import Sample
from dashboard.settings import settings
from dashboard.state import View, only


@cache
def collector() -> Collector:
    """The connection pool, made at first use and shared by all sessions."""
    return Collector(settings())


Bound = tuple[tuple[str, str | int | float | bool | None], ...]


@cache
def _cached() -> Callable[[str, Bound], Result]:
    # Made at first use, because its limits are settings.
    @st.cache_data(ttl=settings().cache_s, max_entries=settings().max_cached_results, show_spinner=False)
    def run(sql: str, params: Bound) -> Result:
        return collector().query(sql, dict(params), reach=queries.reach(dict(params)))

    return run


def _bound(name: str, params: Params) -> Bound:
    """Exactly the parameters that a named query takes, out of those given."""
    return tuple(sorted(only(queries.parameters(name), params).items()))


def fetch(name: str, params: Params) -> Result:
    """The result of a named query with exactly the parameters that it takes, out of those given.

    Raises:
        DashboardError: the query failed; a panel shows it as failed.
    """
    login.require()
    asked = queries.chosen(name, params)
    return _cached()(queries.load(asked), _bound(asked, params))


@cache
def _cached_offers() -> Callable[[str, Bound], Result]:
    @st.cache_data(ttl=settings().offers_cache_s, max_entries=settings().max_cached_asked, show_spinner=False)
    def run(sql: str, params: Bound) -> Result:
        result = collector().query(sql, dict(params), reach=queries.reach(dict(params)))
        if not result.table.num_rows:
            raise _NothingOffered
        return result

    return run


class _NothingOffered(Exception):
    """What is empty is not cached: the first turns may come at any moment."""


def offered(params: Params) -> list[dict[str, Any]]:
    """The routes and tiers that the filters offer. Asked seldom: it looks at days of turns, and stands before everything else of a page.

    Raises:
        DashboardError: the query failed.
    """
    login.require()
    try:
        asked = queries.chosen("filters", params)
        return _cached_offers()(queries.load(asked), _bound(asked, params)).rows
    except _NothingOffered:
        return []


def fetch_view(name: str, view: View, extra: Mapping[str, str | int | None] | None = None) -> Result:
    """The result of a query about a window."""
    return fetch(name, {**view.params(), **(extra or {})})


def fetch_ranking(name: str, params: Params, limit: int) -> Result:
    """What is different about the turns that a query marks: the slices that stand out, the first cause first.

    Raises:
        DashboardError: the query failed.
    """
    login.require()
    asked = queries.chosen(name, params)
    return _cached()(queries.ranking(asked, limit), _bound(asked, params))


@cache
def _cached_asked() -> Callable[[str], tuple[Result, float]]:
    # Apart from the pages' own results: these may be large, so few are kept.
    @st.cache_data(ttl=settings().cache_s, max_entries=settings().max_cached_asked, show_spinner=False)
    def run(sql: str) -> tuple[Result, float]:
        began = time.perf_counter()
        result = collector().query(sql, {}, max_rows=settings().max_query_rows)
        return result, (time.perf_counter() - began) * 1000

    return run


def ask(sql: str) -> tuple[Result, float]:
    """The result of a query that a person wrote, and how long it took in milliseconds.

    Raises:
        DashboardError: the query failed.
    """
    login.require()
    return _cached_asked()(sql)


def forget() -> None:
    """Drops all cached results: a retry must ask again."""
    st.cache_data.clear()  # of the whole process: all that is cached are results


def status() -> CollectorStatus:
    """How fresh the data is, asked anew each time."""
    login.require()
    return collector().status()


def metrics() -> list[Sample]:
    """What the collector counts of itself, asked anew each time."""
    login.require()
    return collector().metrics()


def ready() -> bool:
    """Whether the collector takes data, asked anew each time."""
    login.require()
    return collector().ready()
