"""OTLP spans to rows. Pure. A span that cannot be stored is rejected with its reason; its neighbours are not harmed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags

from collector.receive.attributes import AttributeLimits, as_json, plain_attributes
from collector.receive.meaning import meaning
from collector.writer import Row
from lastword import names

MAX_NS = 2**63 - 1
MAX_EVENTS = 256
MAX_NAME_CHARS = 512
MAX_PROBLEMS = 100
"""Problems of one request that are put into words; all are counted."""

_KINDS = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
_STATUSES = ("UNSET", "OK", "ERROR")


def span_rows(request: ExportTraceServiceRequest, limits: AttributeLimits) -> tuple[list[Row], list[str]]:
    """The rows of a request, and why each rejected span was rejected."""
    rows: list[Row] = []
    rejected: list[str] = []
    for resource in request.resource_spans:
        service = str(plain_attributes(resource.resource.attributes, limits).get("service.name", "")) or None
        for scope in resource.scope_spans:
            for span in scope.spans:
                problem = _problem(span)
                if problem:
                    rejected.append(problem if len(rejected) < MAX_PROBLEMS else "another one")
                else:
                    rows.append(_row(span, service, scope.scope.name or None, limits))
    return rows, rejected


def _problem(span: Span) -> str | None:
    if len(span.trace_id) != 16 or not any(span.trace_id):
        return f"span {span.name[:80]!r}: trace id of {len(span.trace_id)} bytes; 16 that are not all zero are expected"
    if len(span.span_id) != 8 or not any(span.span_id):
        return f"span {span.name[:80]!r}: span id of {len(span.span_id)} bytes; 8 that are not all zero are expected"
    if not 0 < span.start_time_unix_nano <= MAX_NS or not 0 < span.end_time_unix_nano <= MAX_NS:
        return f"span {span.name[:80]!r}: start or end is missing or out of range"
    if span.end_time_unix_nano < span.start_time_unix_nano:
        return f"span {span.name[:80]!r}: it ends before it starts"
    return None


def _row(span: Span, service: str | None, scope: str | None, limits: AttributeLimits) -> Row:
    attributes = plain_attributes(span.attributes, limits)
    turn_id = attributes.get(names.TURN_ID)
    events = list(_events(span.events, limits))
    return {
        "trace_id": span.trace_id.hex(),
        "span_id": span.span_id.hex(),
        "parent_span_id": span.parent_span_id.hex() or None,
        "turn_id": turn_id if isinstance(turn_id, str) else None,
        "name": span.name[:MAX_NAME_CHARS],
        "kind": _name_of(_KINDS, span.kind),
        "status": _name_of(_STATUSES, span.status.code),
        "status_message": span.status.message[: limits.chars] or None,
        "start_ns": span.start_time_unix_nano,
        "duration_ns": span.end_time_unix_nano - span.start_time_unix_nano,
        "service_name": service,
        "scope_name": scope,
        "attributes": as_json(attributes),
        "events": as_json(events),
        "links": as_json([{"traceId": link.trace_id.hex(), "spanId": link.span_id.hex()} for link in span.links[:MAX_EVENTS]]),
        "remote_parent": bool(span.flags & SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK),
        **meaning(attributes, events, span.start_time_unix_nano),
    }


def _events(events: Iterable[Span.Event], limits: AttributeLimits) -> Iterable[dict[str, Any]]:
    for number, event in enumerate(events):
        if number >= MAX_EVENTS:
            return
        yield {
            "name": event.name[:MAX_NAME_CHARS],
            "timeNs": event.time_unix_nano,
            "attributes": plain_attributes(event.attributes, limits),
        }


def _name_of(known: tuple[str, ...], number: int) -> str:
    return known[number] if 0 <= number < len(known) else known[0]
