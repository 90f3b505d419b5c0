"""Why an episode is: which turns stand out, how they broke, and a few of them to look at. Asked once, when it fires."""

from __future__ import annotations

import json
from typing import Any

import duckdb

from collector.alerts.alert import Alert
from collector.store.rows import dicts
from lastword.explain import MARKED_COLUMNS, ranking

SLICES = 5
TRACES = 3
_BEFORE_MINUTES = 1440
"""Turns of so long before the episode are what it is compared with, or of as long as there have been turns."""

_WHERE = "($route IS NULL OR coalesce(route, '') = $route) AND ($tier IS NULL OR coalesce(model_tier, '') = $tier)"
_FROM = f"""
FROM turns
WHERE ended_at >= make_timestamptz($since_us - $before_us) AND ended_at < make_timestamptz($until_us) AND {_WHERE}
"""
_FOCUS = "ended_at >= make_timestamptz($since_us)"
_REASONS = f"""
SELECT * FROM (
    SELECT
        coalesce(reason, completion_status, terminal) AS reason, count(*) FILTER ({_FOCUS}) AS broken,
        coalesce(count(*) FILTER (NOT {_FOCUS}) * ($until_us - $since_us) / (
            SELECT nullif(greatest($since_us - min(epoch_us(ended_at)), 0), 0) {_FROM}
        ), 0) AS expected
    {_FROM} AND {{kind}} GROUP BY 1
) WHERE broken > 0 ORDER BY broken - expected DESC, reason LIMIT 5
"""
_TRACES = f"""
SELECT turn_id, trace_id, route, coalesce(reason, completion_status, terminal) AS reason
{_FROM} AND {{kind}} AND {_FOCUS} ORDER BY ended_at DESC, turn_id LIMIT {TRACES}
"""


def explain(reader: duckdb.DuckDBPyConnection, alert: Alert, *, kind: str, until_ns: int) -> dict[str, Any]:
    """What is different about the turns of an episode up to a time, as `slices`, `reasons` and `traces`.

    `kind` is the condition on `turns` that tells which of them count: `broken`, `client_left`.
    """
    values = {
        "since_us": alert.since_ns // 1000,
        "until_us": until_ns // 1000,
        "before_us": _BEFORE_MINUTES * 60_000_000,
        "route": alert.route,
        "tier": alert.model_tier,
    }
    columns = MARKED_COLUMNS.replace("broken, focus", f"{kind} AS broken, {_FOCUS} AS focus")
    marked = f"SELECT {columns} {_FROM}"
    slices = dicts(reader.execute(ranking(marked, SLICES), _used(marked, values)))
    for one in slices:
        one["attributes"] = json.loads(one["attributes"])
    reasons, traces = (
        dicts(reader.execute(sql, _used(sql, values))) for sql in (_REASONS.format(kind=kind), _TRACES.format(kind=kind))
    )
    return {"slices": slices, "reasons": reasons, "traces": traces}


def _used(sql: str, values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if f"${name}" in sql}


def named(alert: Alert) -> dict[str, str]:
    """The route and tier to look at: the alert's own, or those of the slice that most of the broken turns lie in."""
    found = {name: value for name, value in (("route", alert.route), ("tier", alert.model_tier)) if value is not None}
    slices = (alert.explanation or {}).get("slices", [])
    if slices and alert.scope == "all" and slices[0]["broken"] >= 0.7 * (alert.broken or slices[0]["broken"]):
        first = slices[0]["attributes"]
        found |= {to: first[name] for name, to in (("route", "route"), ("model_tier", "tier")) if name in first}
    return found
