"""The tables of the store: one place for the names, order and types of their columns, for what makes a row the same row, and for how rows are published.

A row lands flat, lists and attributes as JSON text, times in nanoseconds, because that is cheap to log. It is published typed: times as UTC timestamps, by which
segments are sorted and pruned, lists as lists. Milliseconds are integers, ids are hexadecimal text. Adding a column here adds it to an existing store.
"""

from __future__ import annotations

import pyarrow as pa
from msgspec import Struct

from lastword.states import Stage

STAGE_COLUMNS = {
    Stage.AUTH: "auth_ms",
    Stage.PRECHECK: "precheck_ms",
    Stage.CONTEXT: "conversation_context_ms",
    Stage.ROUTE: "route_ms",
    Stage.RETRIEVAL: "retrieval_ms",
    Stage.AGENT_SETUP: "agent_setup_ms",
    Stage.MODEL_WAIT: "model_wait_ms",
    Stage.STREAM: "stream_ms",
    Stage.POST_PROCESS: "post_process_ms",
    Stage.FINALIZE: "finalize_ms",
}

_TEXT, _INT, _SMALL, _BOOL, _REAL = pa.string(), pa.int64(), pa.int32(), pa.bool_(), pa.float64()

SPANS = pa.schema(
    {
        "trace_id": _TEXT,
        "span_id": _TEXT,
        "parent_span_id": _TEXT,
        "turn_id": _TEXT,
        "name": _TEXT,
        "kind": _TEXT,
        "status": _TEXT,
        "status_message": _TEXT,
        "start_ns": _INT,
        "duration_ns": _INT,
        "service_name": _TEXT,
        "scope_name": _TEXT,
        "attributes": _TEXT,
        "events": _TEXT,
        "links": _TEXT,
        "operation": _TEXT,
        "provider": _TEXT,
        "model": _TEXT,
        "conversation_id": _TEXT,
        "tool_name": _TEXT,
        "input_tokens": _INT,
        "output_tokens": _INT,
        "cache_read_tokens": _INT,
        "cache_write_tokens": _INT,
        "finish_reason": _TEXT,
        "first_token_ms": _INT,
        "remote_parent": _BOOL,
        "pending": _BOOL,
    }
)

ACCEPTED = pa.schema(
    {
        "turn_id": _TEXT,
        "trace_id": _TEXT,
        "span_id": _TEXT,
        "conversation_id": _TEXT,
        "started_ns": _INT,
        "deadline_ms": _INT,
        "service_name": _TEXT,
        "service_version": _TEXT,
        "service_instance": _TEXT,
        "contract": _TEXT,
    }
)

ENDED = pa.schema(
    {
        "turn_id": _TEXT,
        "trace_id": _TEXT,
        "span_id": _TEXT,
        "conversation_id": _TEXT,
        "started_ns": _INT,
        "ended_ns": _INT,
        "deadline_ms": _INT,
        "terminal": _TEXT,
        "origin": _TEXT,
        "route": _TEXT,
        "model_tier": _TEXT,
        "model": _TEXT,
        "completion_status": _TEXT,
        "partial": _BOOL,
        "reason": _TEXT,
        "finish_reason": _TEXT,
        "error_code": _TEXT,
        "error_message": _TEXT,
        "retryable": _BOOL,
        "attempts": _SMALL,
        "degraded": _BOOL,
        "fallback": _BOOL,
        "recovered": _BOOL,
        "input_tokens": _INT,
        "output_tokens": _INT,
        "cache_read_tokens": _INT,
        "cache_write_tokens": _INT,
        "usage_complete": _BOOL,
        "sources": _TEXT,
        "sources_count": _SMALL,
        "tools_used": _TEXT,
        "tools_with_results": _TEXT,
        "tool_calls_count": _SMALL,
        "tools_with_results_count": _SMALL,
        "chunk_count": _INT,
        "answer_chars": _INT,
        "answer_matches_stream": _BOOL,
        **dict.fromkeys(STAGE_COLUMNS.values(), _INT),
        "first_token_ms": _INT,
        "total_ms": _INT,
        "service_name": _TEXT,
        "service_version": _TEXT,
        "service_instance": _TEXT,
        "contract": _TEXT,
        "record": _TEXT,
    }
)

CONTENT = pa.schema({"turn_id": _TEXT, "ended_ns": _INT, "prompt": _TEXT, "answer": _TEXT})

VIOLATIONS = pa.schema(
    {
        "turn_id": _TEXT,
        "trace_id": _TEXT,
        "ended_ns": _INT,
        "rule": _TEXT,
        "detail": _TEXT,
        "route": _TEXT,
        "service_name": _TEXT,
        "service_version": _TEXT,
        "service_instance": _TEXT,
    }
)

ALERTS = pa.schema(
    {
        "alert_id": _TEXT,
        "incident_id": _TEXT,
        "rule": _TEXT,
        "severity": _TEXT,
        "role": _TEXT,
        "covering": _BOOL,
        "state": _TEXT,
        "scope": _TEXT,
        "route": _TEXT,
        "model_tier": _TEXT,
        "labels": _TEXT,
        "since_ns": _INT,
        "fired_ns": _INT,
        "resolved_ns": _INT,
        "why_resolved": _TEXT,
        "window_minutes": _SMALL,
        "turns": _INT,
        "broken": _INT,
        "expected": _REAL,
        "rate": _REAL,
        "rate_low": _REAL,
        "rate_high": _REAL,
        "baseline": _REAL,
        "evidence": _REAL,
        "threshold": _REAL,
        "recovers_below": _REAL,
        "value": _REAL,
        "summary": _TEXT,
        "explanation": _TEXT,
        "link": _TEXT,
    }
)

ALERT_EVENTS = pa.schema(
    {
        "event_id": _TEXT,
        "alert_id": _TEXT,
        "incident_id": _TEXT,
        "happened_ns": _INT,
        "change": _TEXT,
        "rule": _TEXT,
        "severity": _TEXT,
        "role": _TEXT,
        "route": _TEXT,
        "model_tier": _TEXT,
        "summary": _TEXT,
    }
)

ALERT_DELIVERIES = pa.schema(
    {
        "delivery_id": _TEXT,
        "event_id": _TEXT,
        "alert_id": _TEXT,
        "incident_id": _TEXT,
        "receiver": _TEXT,
        "state": _TEXT,
        "queued_ns": _INT,
        "due_ns": _INT,
        "attempts": _SMALL,
        "delivered_ns": _INT,
        "error": _TEXT,
        "message": _TEXT,
    }
)

ALERT_SERIES = pa.schema(
    {
        "rule": _TEXT,
        "scope": _TEXT,
        "route": _TEXT,
        "model_tier": _TEXT,
        "minute_ns": _INT,
        "state": _TEXT,
        "turns": _INT,
        "broken": _INT,
        "expected": _REAL,
        "baseline": _REAL,
        "evidence": _REAL,
        "threshold": _REAL,
        "window_minutes": _SMALL,
        "restlessness": _REAL,
        "visible_15": _REAL,
        "visible_60": _REAL,
        "alert_id": _TEXT,
    }
)

ALERT_SILENCES = pa.schema(
    {
        "silence_id": _TEXT,
        "rule": _TEXT,
        "route": _TEXT,
        "model_tier": _TEXT,
        "starts_ns": _INT,
        "ends_ns": _INT,
        "comment": _TEXT,
    }
)

_LIST = "'[\"VARCHAR\"]'"
_USAGE = '{"inputTokens":"BIGINT","outputTokens":"BIGINT","complete":"BOOLEAN"}'
_ATTEMPT = (
    '{"n":"INTEGER","model":"VARCHAR","modelTier":"VARCHAR","outcome":"VARCHAR","errorType":"VARCHAR","visible":"BOOLEAN",'
    f'"providerRequestId":"VARCHAR","usage":{_USAGE},"durationMs":"BIGINT"}}'
)
_NESTED = {
    "tool_calls": ("toolCalls", '{"name":"VARCHAR","outcome":"VARCHAR","durationMs":"BIGINT"}'),
    "source_details": (
        "sourceDetails",
        '{"url":"VARCHAR","title":"VARCHAR","publisher":"VARCHAR","origins":["VARCHAR"],"score":"DOUBLE"}',
    ),
    "attempt_details": ("attempts", _ATTEMPT),
}
"""Published column: its key in the record, and the shape of an item as the engine's `from_json` reads it, which is lenient: what does not fit is null."""


def _at(ns: str, at: str) -> str:
    return f"make_timestamptz({ns} // 1000) AS {at}"


_STARTED = _at("started_ns", "started_at")
_ENDED = _at("ended_ns", "ended_at")


class Table(Struct, frozen=True):
    """A table whose rows land in the hot file and are published in segments.

    `keys` and the time column make a row the same row. `time` is that column as it lands and `time_at` as it is published: a resent row has the same time, so
    the search for it reads only what lies near it. `sort_at` is what segments are sorted by and expire by; `order` is their whole order.
    """

    name: str
    schema: pa.Schema
    keys: tuple[str, ...]
    time: str
    time_at: str
    sort_at: str
    order: str
    published: dict[str, str]

    def typed(self) -> str:
        """The published columns, as a select list over the landed ones."""
        return ", ".join(self.published.get(field.name, f'"{field.name}"') for field in self.schema)


_NESTED_SQL = "".join(f", from_json(record -> '{key}', '[{shape}]') AS {column}" for column, (key, shape) in _NESTED.items())

TABLES = {
    table.name: table
    for table in (
        Table(
            "spans",
            SPANS,
            ("trace_id", "span_id"),
            "start_ns",
            "started_at",
            "started_at",
            "date_trunc('minute', started_at), trace_id, started_at",
            {"start_ns": f"{_at('start_ns', 'started_at')}, CAST(start_ns % 1000 AS SMALLINT) AS start_rest_ns"},
        ),
        Table(
            "ended",
            ENDED,
            ("turn_id",),
            "started_ns",
            "started_at",
            "ended_at",
            "ended_at",
            {
                "started_ns": _STARTED,
                "ended_ns": _ENDED,
                "origin": "coalesce(origin, 'record') AS origin",
                "sources": f"from_json(sources, {_LIST}) AS sources",
                "tools_used": f"from_json(tools_used, {_LIST}) AS tools_used",
                "tools_with_results": f"from_json(tools_with_results, {_LIST}) AS tools_with_results",
                "record": f"record{_NESTED_SQL}",
            },
        ),
        Table("content", CONTENT, ("turn_id",), "ended_ns", "ended_at", "ended_at", "ended_at", {"ended_ns": _ENDED}),
        Table(
            "violations",
            VIOLATIONS,
            ("turn_id", "trace_id", "rule"),
            "ended_ns",
            "ended_at",
            "ended_at",
            "ended_at",
            {"ended_ns": _ENDED},
        ),
    )
}
"""The tables that are published in segments. Each lands in two tables, `a` and `b`: one is written while the other is published and emptied."""

ACCEPTED_TABLE = Table(
    "accepted", ACCEPTED, ("turn_id",), "started_ns", "started_at", "started_at", "started_at", {"started_ns": _STARTED}
)
"""Turns without a terminal, and only those: a terminal takes its turn out."""


def _dated(name: str, schema: pa.Schema, key: str, time: str) -> Table:
    """A table that is published with its times as timestamps: `fired_ns` becomes `fired_at`, and `minute_ns` the minute."""
    names = {field: f"{field.removesuffix('_ns')}_at" for field in schema.names if field.endswith("_ns")}
    if "minute_ns" in names:
        names["minute_ns"] = "minute"
    published = {field: _at(field, at) for field, at in names.items()}
    return Table(name, schema, (key,), time, names[time], names[time], f"{names[time]}, {key}", published)


SNAPSHOTS = {
    table.name: table
    for table in (
        ACCEPTED_TABLE,
        _dated("alerts", ALERTS, "alert_id", "fired_ns"),
        _dated("alert_events", ALERT_EVENTS, "event_id", "happened_ns"),
        _dated("alert_deliveries", ALERT_DELIVERIES, "delivery_id", "queued_ns"),
        _dated("alert_series", ALERT_SERIES, "rule", "minute_ns"),
        _dated("alert_silences", ALERT_SILENCES, "silence_id", "starts_ns"),
    )
}
"""Tables of few rows, which change in place: they stay in the hot file, and the catalog gets a copy whenever they changed."""

_SQL_TYPES = {_TEXT: "VARCHAR", _INT: "BIGINT", _SMALL: "INTEGER", _BOOL: "BOOLEAN", _REAL: "DOUBLE"}


def sql_columns(schema: pa.Schema) -> dict[str, str]:
    """The engine's type of each column."""
    return {field.name: _SQL_TYPES[field.type] for field in schema}


def create_table(name: str, schema: pa.Schema, *, replace: bool = False) -> str:
    """The statement that makes a table of these columns."""
    columns = ", ".join(f'"{column}" {kind}' for column, kind in sql_columns(schema).items())
    return f"CREATE {'OR REPLACE TABLE' if replace else 'TABLE IF NOT EXISTS'} {name} ({columns})"
