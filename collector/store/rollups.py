"""Rollups by the minute in which turns ended: `turn_minutes` and `stage_minutes`, as SQL over any relation of published turns. Pure.

A rollup is computed from the turns of one segment when that segment is published, and stands in a segment of its own. A turn lies in one segment, so rows of the
same minute add up: late turns bring rows of their own for an old minute, and nothing that was written is ever changed.
"""

from __future__ import annotations

from msgspec import Struct

from collector.store.tables import STAGE_COLUMNS

LEFT_REASONS = ("client_cancelled", "client_disconnected")
"""Reasons for which a turn ended early without a fault on our side of the wire."""

_LEFT = "coalesce(reason, '') IN ('client_cancelled', 'client_disconnected')"
_BROKEN = f"(coalesce(\"partial\", false) OR terminal <> 'done') AND NOT {_LEFT}"
_MARKS = {"first_token_ms": "firstToken", "total_ms": "total"}


class Rollup(Struct, frozen=True):
    """A rollup: its key, and its sums with their types. `select` is the query over published turns, with `{turns}` where they stand."""

    name: str
    keys: dict[str, str]
    sums: tuple[str, ...]
    select: str

    def of(self, turns: str) -> str:
        """The rollup of a relation of published turns (columns as in `ended`)."""
        return self.select.replace("{turns}", turns)

    def added(self, relation: str) -> str:
        """The rows of a relation of rollups, added up: one row per key."""
        sums = ", ".join(f"CAST(sum({name}) AS BIGINT) AS {name}" for name in self.sums)
        return f"SELECT {', '.join(self.keys)}, {sums} FROM {relation} GROUP BY ALL"

    def columns(self) -> dict[str, str]:
        """The engine's type of each column."""
        return {**self.keys, **dict.fromkeys(self.sums, "BIGINT")}


def _turn_minutes() -> Rollup:
    keys = {"minute": "TIMESTAMPTZ", **dict.fromkeys(("route", "tier", "model", "status", "reason"), "VARCHAR")}
    counts = {
        "n": "count(*)",
        "partials": 'count(*) FILTER ("partial")',
        "broken": f"count(*) FILTER ({_BROKEN})",
        "client_left": f"count(*) FILTER ({_LEFT})",
        "tools": "sum(coalesce(tool_calls_count, 0))",
        "tools_with_results": "sum(coalesce(tools_with_results_count, 0))",
        "sources": "sum(coalesce(sources_count, 0))",
        "without_source": "count(*) FILTER (terminal = 'done' AND sources_count = 0)",
        "input_tokens": "sum(coalesce(input_tokens, 0))",
        "output_tokens": "sum(coalesce(output_tokens, 0))",
        "tokens": "sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0))",
    }
    sums = ", ".join(f"CAST({text} AS BIGINT) AS {name}" for name, text in counts.items())
    select = (
        "SELECT date_trunc('minute', ended_at) AS minute, route, model_tier AS tier, model, "
        f"coalesce(completion_status, terminal) AS status, reason, {sums} FROM {{turns}} GROUP BY ALL"
    )
    return Rollup("turn_minutes", keys, tuple(counts), select)


def _stage_minutes() -> Rollup:
    stages = {column: stage.value.removesuffix("Ms") for stage, column in STAGE_COLUMNS.items()} | _MARKS
    # UNPIVOT would need its columns renamed to the stages' names, and `route` is taken: a list of pairs is as quick.
    pairs = ", ".join(f"{{'stage': '{stage}', 'ms': {column}}}" for column, stage in stages.items())
    select = (
        "SELECT minute, route, tier, pair.stage AS stage, "
        "CAST(CASE WHEN pair.ms < 1 THEN -1 ELSE floor(8 * log2(pair.ms)) END AS INTEGER) AS bucket, count(*) AS n "
        f"FROM (SELECT date_trunc('minute', ended_at) AS minute, route, model_tier AS tier, unnest([{pairs}]) AS pair FROM {{turns}}) "
        "WHERE pair.ms IS NOT NULL GROUP BY ALL"
    )
    keys = {"minute": "TIMESTAMPTZ", "route": "VARCHAR", "tier": "VARCHAR", "stage": "VARCHAR", "bucket": "INTEGER"}
    return Rollup("stage_minutes", keys, ("n",), select)


ROLLUPS = {rollup.name: rollup for rollup in (_turn_minutes(), _stage_minutes())}
