"""Rollups by time, as SQL over any relation of published turns or spans. Pure.

`turn_minutes` and `stage_minutes` count by the minute, the others by steps of five minutes: by the minute they would be hardly fewer rows than turns. `turn_roots` is made of spans,
the others of turns by the time at which they ended.

A rollup is computed from the rows of one segment when that segment is published, and stands in a segment of its own. A turn lies in one segment, so rows of the
same minute add up: late turns bring rows of their own for an old minute, and nothing that was written is ever changed.
"""

from __future__ import annotations

from msgspec import Struct

from collector.store.tables import STAGE_COLUMNS
from lastword import names

LEFT_REASONS = ("client_cancelled", "client_disconnected")
"""Reasons for which a turn ended early without a fault on our side of the wire."""

_LEFT = "coalesce(reason, '') IN ('client_cancelled', 'client_disconnected')"
_BROKEN = f"(coalesce(\"partial\", false) OR terminal <> 'done') AND NOT {_LEFT}"
_MARKS = {"first_token_ms": "firstToken", "total_ms": "total"}
STEP_MINUTES = 5
_STEP_US = STEP_MINUTES * 60_000_000
_STEP = f"make_timestamptz(epoch_us(ended_at) // {_STEP_US} * {_STEP_US})"
_STATUS = "coalesce(completion_status, terminal)"
UNACCOUNTED = "unaccounted"
"""The rest of a turn's time, as a stage."""


SUM_TYPES = {"score": "DOUBLE"}
"""Sums that are no whole numbers."""


class Rollup(Struct, frozen=True):
    """A rollup: its key, which begins with the time, and its sums. `select` is the query over the published rows of its source, with `{rows}` where they stand."""

    name: str
    keys: dict[str, str]
    sums: tuple[str, ...]
    select: str
    unique: bool = False
    """Whether a reader finds one row per key. Else rows of a key stand more than once and are added up by who reads them, which spares reading them twice."""
    order: str = "ALL"
    """What segments are sorted by."""
    source: str = "ended"
    """The table that it is made of."""

    @property
    def at(self) -> str:
        """The column of the time."""
        return next(iter(self.keys))

    def sorted(self, rows: str) -> str:
        """Rows of a query in the order of segments."""
        return f"SELECT * FROM ({rows}) ORDER BY {self.order}"

    def of(self, rows: str) -> str:
        """The rollup of a relation of published rows, with the columns of its source."""
        return self.select.replace("{rows}", rows)

    def added(self, relation: str) -> str:
        """The rows of a relation of rollups, added up: one row per key."""
        sums = ", ".join(f"CAST(sum({name}) AS {SUM_TYPES.get(name, 'BIGINT')}) AS {name}" for name in self.sums)
        return f"SELECT {', '.join(self.keys)}, {sums} FROM {relation} GROUP BY ALL"

    def columns(self) -> dict[str, str]:
        """The engine's type of each column."""
        return {**self.keys, **{name: SUM_TYPES.get(name, "BIGINT") for name in self.sums}}


def _bucket(ms: str) -> str:
    """The bucket of a time: an eighth of an octave, so that its middle is at most 4.4% off."""
    return f"CAST(CASE WHEN {ms} < 1 THEN -1 ELSE floor(8 * log2({ms})) END AS INTEGER)"


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
        f"coalesce(completion_status, terminal) AS status, reason, {sums} FROM {{rows}} GROUP BY ALL"
    )
    return Rollup("turn_minutes", keys, tuple(counts), select, unique=True)


def _stage_minutes() -> Rollup:
    stages = {column: stage.value.removesuffix("Ms") for stage, column in STAGE_COLUMNS.items()} | _MARKS
    # UNPIVOT would need its columns renamed to the stages' names, and `route` is taken: a list of pairs is as quick.
    pairs = ", ".join(f"{{'stage': '{stage}', 'ms': {column}}}" for column, stage in stages.items())
    select = (
        f"SELECT minute, route, tier, pair.stage AS stage, {_bucket('pair.ms')} AS bucket, count(*) AS n "
        f"FROM (SELECT date_trunc('minute', ended_at) AS minute, route, model_tier AS tier, unnest([{pairs}]) AS pair FROM {{rows}}) "
        "WHERE pair.ms IS NOT NULL GROUP BY ALL"
    )
    keys = {"minute": "TIMESTAMPTZ", "route": "VARCHAR", "tier": "VARCHAR", "stage": "VARCHAR", "bucket": "INTEGER"}
    return Rollup("stage_minutes", keys, ("n",), select, unique=True)


def _turn_steps() -> Rollup:
    keys = {"step": "TIMESTAMPTZ"} | dict.fromkeys(
        (
            "route",
            "tier",
            "model",
            "tools",
            "service_version",
            "service_instance",
            "status",
            "terminal",
            "reason",
            "ending",
            "broke_in",
        ),
        "VARCHAR",
    )
    ran = " ".join(
        f"WHEN {column} IS NOT NULL THEN '{column}'"
        for column in (
            "model_wait_ms",
            "agent_setup_ms",
            "retrieval_ms",
            "route_ms",
            "conversation_context_ms",
            "precheck_ms",
            "auth_ms",
        )
    )
    select = (
        f"SELECT {_STEP} AS step, route, model_tier AS tier, model, array_to_string(list_sort(tools_used), ', ') AS tools, "
        f"service_version, service_instance, {_STATUS} AS status, terminal, reason, "
        f"CASE WHEN {_LEFT} THEN 'left' WHEN terminal = 'abandoned' THEN 'lost' WHEN {_BROKEN} AND first_token_ms IS NOT NULL THEN 'kept' "
        f"WHEN {_BROKEN} THEN 'failed' WHEN fallback THEN 'fallback' WHEN degraded THEN 'degraded' WHEN attempts > 1 THEN 'retried' END AS ending, "
        f"CASE WHEN NOT ({_BROKEN}) OR terminal = 'abandoned' THEN NULL WHEN first_token_ms IS NOT NULL THEN 'stream_ms' {ran} END AS broke_in, "
        f"count(*) AS n, count(*) FILTER ({_BROKEN}) AS broken FROM {{rows}} GROUP BY ALL"
    )
    return Rollup("turn_steps", keys, ("n", "broken"), select)


def _stage_steps() -> Rollup:
    stages = {column: stage.value.removesuffix("Ms") for stage, column in STAGE_COLUMNS.items()} | _MARKS
    claimed = " - ".join(f"coalesce({column}, 0)" for column in STAGE_COLUMNS.values())
    pairs = ", ".join(
        f"{{'stage': '{stage}', 'ms': {ms}}}" for ms, stage in {**stages, f"total_ms - {claimed}": UNACCOUNTED}.items()
    )
    select = (
        f"SELECT step, route, tier, status, pair.stage AS stage, {_bucket('pair.ms')} AS bucket, count(*) AS n, CAST(sum(pair.ms) AS BIGINT) AS ms "
        f"FROM (SELECT {_STEP} AS step, route, model_tier AS tier, {_STATUS} AS status, unnest([{pairs}]) AS pair FROM {{rows}}) "
        "WHERE pair.ms IS NOT NULL GROUP BY ALL"
    )
    keys = {"step": "TIMESTAMPTZ", **dict.fromkeys(("route", "tier", "status", "stage"), "VARCHAR"), "bucket": "INTEGER"}
    # By the day and stage, so that a query about one stage reads little more than it.
    return Rollup(
        "stage_steps", keys, ("n", "ms"), select, order="date_trunc('day', step), stage, step, route, tier, status, bucket"
    )


def _tool_steps() -> Rollup:
    select = (
        f"SELECT step, route, tier, status, item.name AS name, item.outcome AS outcome, {_bucket('item.durationMs')} AS bucket, count(*) AS n "
        f"FROM (SELECT {_STEP} AS step, route, model_tier AS tier, {_STATUS} AS status, unnest(tool_calls) AS item "
        "FROM {rows} WHERE tool_calls_count > 0) GROUP BY ALL"
    )
    keys = {
        "step": "TIMESTAMPTZ",
        **dict.fromkeys(("route", "tier", "status", "name", "outcome"), "VARCHAR"),
        "bucket": "INTEGER",
    }
    return Rollup("tool_steps", keys, ("n",), select)


HOST = "coalesce(nullif(regexp_extract(url, '^[a-zA-Z][a-zA-Z0-9+.-]*://(?:[^/?#]*@)?(?:www[.])?([^/:?#]+)', 1), ''), '(none)')"
"""The host of a source's URL."""


def _source_steps() -> Rollup:
    # A turn stands in one step, so turns that have such a source add up; those of a host are no sum of those of its addresses, so each kind is counted for itself.
    # Hosts are extracted once per address: a regular expression over every source takes longer than all the rest.
    per = "step, route, tier, status"
    select = (
        f"SELECT * FROM (WITH turn AS (SELECT {_STEP} AS step, route, model_tier AS tier, {_STATUS} AS status, terminal, turn_id, sources_count, source_details "
        "FROM {rows}), "
        f"source AS (SELECT {per}, turn_id, unnest(source_details) AS item FROM turn WHERE sources_count > 0), "
        f"of_turn AS (SELECT {per}, turn_id, item.url AS url, count(*) AS n, sum(item.score) AS score, count(item.score) AS scored FROM source GROUP BY ALL), "
        f"address AS (SELECT url, {HOST} AS host FROM (SELECT DISTINCT url FROM of_turn)), "
        f"host AS (SELECT {per}, turn_id, host, sum(n) AS n, sum(score) AS score, sum(scored) AS scored "
        "FROM of_turn JOIN address ON of_turn.url IS NOT DISTINCT FROM address.url GROUP BY ALL), "
        f"origin AS (SELECT {per}, turn_id, origin, count(*) AS n FROM (SELECT {per}, turn_id, "
        "unnest(list_append(list_distinct(coalesce(item.origins, [])), NULL)) AS origin FROM source) GROUP BY ALL) "
        f"SELECT {per}, 'count' AS kind, CAST(sources_count AS VARCHAR) AS value, CAST(sum(sources_count) AS BIGINT) AS n, count(*) AS turns, "
        "CAST(NULL AS DOUBLE) AS score, 0::BIGINT AS scored FROM turn WHERE terminal = 'done' AND sources_count IS NOT NULL GROUP BY ALL "
        f"UNION ALL SELECT {per}, 'address', url, CAST(sum(n) AS BIGINT), count(*), NULL, 0 FROM of_turn GROUP BY {per}, url "
        f"UNION ALL SELECT {per}, 'host', host, CAST(sum(n) AS BIGINT), count(*), sum(score), CAST(sum(scored) AS BIGINT) FROM host GROUP BY {per}, host "
        f"UNION ALL SELECT {per}, 'origin', origin, CAST(sum(n) AS BIGINT), count(*), NULL, 0 FROM origin GROUP BY {per}, origin)"
    )
    keys = {"step": "TIMESTAMPTZ", **dict.fromkeys(("route", "tier", "status", "kind", "value"), "VARCHAR")}
    return Rollup("source_steps", keys, ("n", "turns", "score", "scored"), select)


def _turn_roots() -> Rollup:
    """Which turns have their root span, without a look at all other spans."""
    step = f"make_timestamptz(epoch_us(started_at) // {_STEP_US} * {_STEP_US})"
    select = (
        f"SELECT {step} AS step, turn_id, count(*) AS n FROM {{rows}} "
        f"WHERE name = '{names.SPAN_TURN}' AND turn_id IS NOT NULL AND pending IS NOT true GROUP BY ALL"
    )
    return Rollup("turn_roots", {"step": "TIMESTAMPTZ", "turn_id": "VARCHAR"}, ("n",), select, source="spans")


ROLLUPS = {
    rollup.name: rollup
    for rollup in (
        _turn_minutes(),
        _stage_minutes(),
        _turn_steps(),
        _stage_steps(),
        _tool_steps(),
        _source_steps(),
        _turn_roots(),
    )
}
