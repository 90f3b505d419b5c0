"""Turn records (OTLP log records of ours) to rows. Pure.

Lenient where a newer service may say more: unknown fields and unknown statuses are kept as they are. Strict in what a row needs: ids and times.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from collector.receive.attributes import as_json
from collector.receive.spans import MAX_NS
from collector.store.batches import Row
from collector.store.tables import STAGE_COLUMNS
from collector.writer import Rows
from lastword import names
from lastword.events import ServiceInfo, TurnAccepted, TurnContent


class _Ended(Struct, frozen=True, rename="camel"):
    """The parts of `turn.done` that every row needs; the terminal's metadata is read by name."""

    turn_id: str
    trace_id: str
    span_id: str
    ended_at: datetime
    terminal: str
    answer_chars: int = 0
    done: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    error_code: str | None = None
    error_message: str | None = None
    retryable: bool | None = None
    content: TurnContent | None = None


class _Usage(Struct, frozen=True, rename="camel"):
    """Tokens of a turn."""

    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    complete: bool | None = None


class _Metadata(Struct, frozen=True, rename="camel"):
    """The metadata of a terminal as far as it has columns of its own. Closed words are plain text here: a newer service may know more."""

    started_at: datetime
    stage_timings: dict[str, int | None]
    service: ServiceInfo
    contract: str
    route: str | None = None
    model_tier: str | None = None
    model: str | None = None
    conversation_id: str | None = None
    completion_status: str | None = None
    partial: bool = False
    reason: str | None = None
    finish_reason: str | None = None
    sources: list[str] = []
    tools_used: list[str] = []
    tools_with_results: list[str] = []
    tool_calls: list[dict[str, Any]] = []
    attempts: list[dict[str, Any]] = []
    usage: _Usage = _Usage()
    chunk_count: int | None = None
    answer_matches_stream: bool | None = None
    degraded: bool | None = None
    fallback: bool | None = None
    recovered: bool | None = None


def record_rows(request: ExportLogsServiceRequest, max_content_chars: int) -> tuple[Rows, list[str], int]:
    """The rows of a request, why each rejected record was rejected, and how many records are none of ours."""
    rows = Rows(accepted=[], ended=[], content=[])
    rejected: list[str] = []
    foreign = 0
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                try:
                    foreign += not _take(record, rows, max_content_chars)
                except (msgspec.MsgspecError, ValueError, RecursionError) as error:  # the last: nested a thousand deep
                    rejected.append(f"{record.event_name}: {error}")
    return rows, rejected, foreign


def _take(record: LogRecord, rows: Rows, max_content_chars: int) -> bool:
    """Adds the rows of one record; false where it is none of ours."""
    match record.event_name:
        case names.RECORD_ACCEPTED:
            rows.accepted.append(_in_range(_accepted(msgspec.json.decode(record.body.string_value, type=TurnAccepted))))
        case names.RECORD_DONE:
            ended = msgspec.json.decode(record.body.string_value, type=_Ended)
            row = _in_range(_ended(ended))
            rows.ended.append(row)
            if ended.content is not None:
                prompt, answer = ended.content.prompt[:max_content_chars], ended.content.answer[:max_content_chars]
                rows.content.append({"turn_id": ended.turn_id, "ended_ns": row["ended_ns"], "prompt": prompt, "answer": answer})
        case _:
            return False
    return True


def _accepted(record: TurnAccepted) -> Row:
    return {
        "turn_id": record.turn_id,
        "trace_id": record.trace_id,
        "span_id": record.span_id,
        "conversation_id": record.conversation_id,
        "started_ns": _ns(record.started_at),
        "deadline_ms": record.deadline_ms,
        **_service(record.service),
        "contract": record.contract,
    }


def _ended(record: _Ended) -> Row:
    raw = record.done if record.done is not None else record.error
    if raw is None:
        raise ValueError("neither done nor error")
    metadata = msgspec.convert(raw, _Metadata)
    if raw.get("answer"):
        raw = raw | {"answer": ""}  # the text of an answer has a table and a time of its own, whatever a sender leaves here
    timings = metadata.stage_timings
    usage = metadata.usage
    return {
        "turn_id": record.turn_id,
        "trace_id": record.trace_id,
        "span_id": record.span_id,
        "conversation_id": metadata.conversation_id,
        "started_ns": _ns(metadata.started_at),
        "ended_ns": _ns(record.ended_at),
        "terminal": "done" if record.done is not None else "error",
        "route": metadata.route,
        "model_tier": metadata.model_tier,
        "model": metadata.model,
        "completion_status": metadata.completion_status,
        "partial": metadata.partial,
        "reason": metadata.reason,
        "finish_reason": metadata.finish_reason,
        "error_code": record.error_code,
        "error_message": record.error_message,
        "retryable": record.retryable,
        "attempts": len(metadata.attempts),
        "degraded": metadata.degraded,
        "fallback": metadata.fallback,
        "recovered": metadata.recovered,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "usage_complete": usage.complete,
        "sources": as_json(metadata.sources),
        "sources_count": len(metadata.sources),
        "tools_used": as_json(metadata.tools_used),
        "tools_with_results": as_json(metadata.tools_with_results),
        "tool_calls_count": len(metadata.tool_calls),
        "tools_with_results_count": len(metadata.tools_with_results),
        "chunk_count": metadata.chunk_count,
        "answer_chars": record.answer_chars,
        "answer_matches_stream": metadata.answer_matches_stream,
        **{column: timings.get(stage.value) for stage, column in STAGE_COLUMNS.items()},
        "first_token_ms": timings.get("firstTokenMs"),
        "total_ms": timings.get("totalMs"),
        **_service(metadata.service),
        "contract": metadata.contract,
        "record": as_json(raw),
    }


def _in_range(row: Row) -> Row:
    """The row, where its numbers fit their columns: one that does not would fail the commit of its neighbours."""
    for name, value in row.items():
        if isinstance(value, int) and not -MAX_NS <= value <= MAX_NS:
            raise ValueError(f"{name} is out of range")
    return row


def _service(service: ServiceInfo) -> Row:
    return {"service_name": service.name, "service_version": service.version, "service_instance": service.instance}


def _ns(time: datetime) -> int:
    """Nanoseconds since 1970 of a time with microseconds, without the rounding of floats."""
    if time.tzinfo is None:
        raise ValueError("a time without a zone")
    whole = time.replace(microsecond=0)
    return int(whole.timestamp()) * 1_000_000_000 + time.microsecond * 1000
