"""The columns of the tables that rows land in, as Arrow schemas: one place for their names, order and types.

Lists and attributes land as JSON text and are published typed by the views. Milliseconds are integers, times are nanoseconds here and UTC
timestamps in the views, ids are hexadecimal text.
"""

from __future__ import annotations

import pyarrow as pa

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

_TEXT, _INT, _SMALL, _BOOL = pa.string(), pa.int64(), pa.int32(), pa.bool_()

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
        "terminal": _TEXT,
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

_SQL_TYPES = {_TEXT: "VARCHAR", _INT: "BIGINT", _SMALL: "INTEGER", _BOOL: "BOOLEAN"}


def create_table(name: str, schema: pa.Schema) -> str:
    """The statement that makes a table of these columns."""
    columns = ", ".join(f"{field.name} {_SQL_TYPES[field.type]}" for field in schema)
    return f"CREATE TABLE IF NOT EXISTS {name} ({columns})"
