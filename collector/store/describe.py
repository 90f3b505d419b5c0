"""What every table, view and column is, in words: the one place that docs/sql.md and the comments inside the database are made from. Constants and the SQL made of them."""

from __future__ import annotations

from types import MappingProxyType

import duckdb

from collector.store.segments import quoted

TABLES_TEXT = MappingProxyType(
    {
        "turns": "a turn that ended, or was given up for lost",
        "open_turns": "a turn that was accepted, has no terminal yet and still has time",
        "turn_stages": "a stage of a turn; `unaccounted` is the rest of the turn's total",
        "turn_tools": "a tool call of a turn",
        "turn_sources": "a source of a turn, in the order of first evidence",
        "turn_attempts": "a try at the model",
        "turn_content": "prompt and answer of a turn, only where content capture is on",
        "spans": "a span",
        "violations": "a place where a turn's record or trace breaks the contract",
        "turn_minutes": "turns counted by the minute in which they ended, and by what they were",
        "stage_minutes": "times of a stage counted by minute and by size, in buckets of an eighth of an octave",
        "partial_rate_per_minute": "a minute of a route and tier, with the share of broken turns",
        "stage_latency": "a minute of a route's stage, with quantiles from `stage_minutes`, at most 4.4% off",
        "tools_with_results": "a tool, with how many of its calls returned evidence",
        "source_counts": "a number of sources, with how many turns of a route rest on that many",
        "slowest_turns": "one of the hundred slowest turns",
        "lost_turns": "a turn that was accepted and never ended",
    }
)
"""Name to what a row of it is."""

_COMMON = {
    "turn_id": "The turn.",
    "trace_id": "The trace, 32 hexadecimal digits.",
    "span_id": "The span, 16 hexadecimal digits; of a turn, its root span.",
    "conversation_id": "The conversation that it belongs to.",
    "started_at": "When it began, UTC.",
    "ended_at": "When the turn ended, UTC; of an abandoned turn, when it was given up.",
    "deadline_ms": "How long the turn was allowed to take.",
    "route": "The route that the turn took.",
    "model_tier": "The model tier.",
    "tier": "The model tier.",
    "model": "The model.",
    "service_name": "The service.",
    "service_version": "Its version.",
    "service_instance": "Its process.",
    "contract": "The version of the turn contract.",
    "minute": "The minute in which the turns ended.",
    "n": "The number in order, from 1.",
    "name": "Its name.",
    "stage": "The stage, by its key in `stageTimings` without `Ms`.",
    "outcome": "What it came to.",
    "duration_ms": "How long it took.",
    "input_tokens": "Tokens read by the model.",
    "output_tokens": "Tokens written by the model.",
    "usage_complete": "False where a call was cut before it reported its tokens.",
    "turns": "How many turns.",
    "broken": "Whether the turn ended partial, abandoned or in an error for a reason on our side of the wire.",
    "client_left": "Whether the person cancelled or left.",
    "partial": "Whether text was shown of an answer that did not finish.",
    "reason": "Why the turn did not simply succeed.",
    "completion_status": "How the turn ended, in the contract's word; null where it has no done.",
    "sources_count": "How many sources.",
    "first_token_ms": "From acceptance to the first visible chunk; null where nothing was shown.",
    "total_ms": "From acceptance to the terminal.",
}

_OWN: dict[str, dict[str, str]] = {
    "turns": {
        "terminal": "`done`, `error`, or `abandoned` where none came in time.",
        "origin": "`record` for a turn record of the service, `spans` for a turn made of the spans of a service that sends none.",
        "finish_reason": "The provider's own word for the end.",
        "error_code": "The error's code.",
        "error_message": "The error's message, safe to show.",
        "retryable": "Whether asking again may help.",
        "attempts": "How many tries at the model.",
        "degraded": "Whether a cheaper tier answered.",
        "fallback": "Whether the safe answer was given.",
        "recovered": "Whether the terminal was written after a crash.",
        "cache_read_tokens": "Tokens read from the provider's cache.",
        "cache_write_tokens": "Tokens written to the provider's cache.",
        "sources": "The sources' URLs, as a list.",
        "tools_used": "Names of the tools that were called, as a list.",
        "tools_with_results": "Those of them that returned evidence.",
        "tool_calls_count": "How many tool calls.",
        "tools_with_results_count": "How many tools returned evidence.",
        "chunk_count": "How many chunks were streamed.",
        "answer_chars": "Length of the answer in characters.",
        "answer_matches_stream": "Whether the answer is the streamed text.",
        "auth_ms": "Stage: who is asking.",
        "precheck_ms": "Stage: size, policy, quota.",
        "conversation_context_ms": "Stage: the conversation's history.",
        "route_ms": "Stage: the choice of route and tier.",
        "retrieval_ms": "Stage: retrieval.",
        "agent_setup_ms": "Stage: tools, prompt, client.",
        "model_wait_ms": "Stage: first attempt's start to first visible chunk.",
        "stream_ms": "Stage: first visible chunk to last content.",
        "post_process_ms": "Stage: canonical answer and sources.",
        "finalize_ms": "Stage: persisting the answer.",
        "record": "The terminal's whole metadata, as JSON.",
    },
    "turn_stages": {
        "position": "The stage's place in the order of the machine.",
        "ms": "How long it took.",
        "share": "Its share of the turn's total, from 0 to 1.",
    },
    "turn_tools": {"outcome": "`results`, `empty`, `error` or `timeout`."},
    "turn_sources": {
        "url": "Absolute URL.",
        "title": "Title.",
        "publisher": "Publisher.",
        "origins": "Where it was evidenced: retrieval, tool, payload, answer.",
        "score": "Rank score of the retrieval, higher is better.",
    },
    "turn_attempts": {
        "outcome": "`ok`, or the reason that ended it.",
        "error_type": "The provider's type of error.",
        "visible": "Whether it had shown text.",
        "provider_request_id": "The provider's id of the request.",
    },
    "turn_content": {"prompt": "What the person wrote.", "answer": "What the person read."},
    "spans": {
        "parent_span_id": "The parent, null at the root.",
        "kind": "INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER or UNSPECIFIED.",
        "status": "UNSET, OK or ERROR.",
        "status_message": "Words to the status.",
        "ended_at": "When it ended, UTC.",
        "start_ns": "Start in nanoseconds since 1970.",
        "duration_ns": "Duration in nanoseconds.",
        "scope_name": "The instrumentation scope.",
        "attributes": "Attributes as a JSON object.",
        "events": "Events as a JSON list of `name`, `timeNs`, `attributes`.",
        "links": "Links as a JSON list of `traceId`, `spanId`.",
        "operation": "What a GenAI span did: `chat`, `execute_tool`, `retrieval`, `invoke_agent` and others; null for other spans.",
        "provider": "Who serves the model.",
        "tool_name": "The tool that was called.",
        "cache_read_tokens": "Tokens read from the provider's cache.",
        "cache_write_tokens": "Tokens written to the provider's cache.",
        "finish_reason": "The provider's own word for the end.",
        "first_token_ms": "From the span's start to the first token.",
    },
    "violations": {"rule": "The rule that is broken.", "detail": "How, in a sentence."},
    "turn_minutes": {
        "status": "The completion status; `error` or `abandoned` where there is none.",
        "n": "How many turns.",
        "partials": "Those that ended partial.",
        "broken": "Those that broke on our side of the wire.",
        "client_left": "Those that the person cancelled or left.",
        "tools": "Tool calls.",
        "tools_with_results": "Tools that returned evidence.",
        "sources": "Sources.",
        "without_source": "Answered turns without any source.",
        "tokens": "Tokens read and written.",
    },
    "stage_minutes": {
        "stage": "The stage, or the marks `firstToken` and `total`.",
        "bucket": "`floor(8 * log2(ms))`, -1 below a millisecond.",
        "n": "How many turns.",
    },
    "partial_rate_per_minute": {
        "broken": "How many broke.",
        "client_left": "How many people cancelled or left.",
        "rate": "The partial rate: broken turns by all turns.",
    },
    "stage_latency": {"p50_ms": "Median.", "p95_ms": "95th percentile.", "p99_ms": "99th percentile."},
    "tools_with_results": {
        "calls": "How many calls.",
        "with_results": "Calls that returned evidence.",
        "empty": "Calls that returned nothing.",
        "error": "Calls that failed.",
        "timeout": "Calls that took too long.",
        "share": "Share of calls that returned evidence.",
    },
}


def column_text(table: str, column: str) -> str:
    """What a column is.

    Raises:
        KeyError: nobody has described it.
    """
    own = _OWN.get(table, {})
    return own[column] if column in own else _COMMON[column]


def describe(connection: duckdb.DuckDBPyConnection) -> None:
    """Writes the descriptions into a database that has the views, as comments."""
    for table, text in TABLES_TEXT.items():
        connection.execute(f"COMMENT ON VIEW {table} IS {quoted(f'A row is {text}.')}")
        for column, *_ in connection.execute(f"DESCRIBE {table}").fetchall():
            connection.execute(f'COMMENT ON COLUMN {table}."{column}" IS {quoted(column_text(table, column))}')
