"""OTLP requests for tests: spans and turn records, as protobuf."""

from __future__ import annotations

import secrets

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lastword import names
from lastword.events import TurnAccepted, TurnDone
from lastword.wire import encode_json
from tests.unit.lastword.samples import DONE, INFO, STARTED, error

NS = 1_700_000_000_000_000_000


def spans(count, *, start_ns=NS, trace_id=None):
    """A request of `count` good spans of one trace."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "test"
    scope = resource.scope_spans.add()
    trace_id = trace_id or secrets.token_bytes(16)
    for n in range(count):
        span = scope.spans.add()
        span.trace_id, span.span_id = trace_id, secrets.token_bytes(8)
        span.name, span.kind = f"span {n}", 2
        span.start_time_unix_nano, span.end_time_unix_nano = start_ns + n, start_ns + n + 1_500_000
        span.attributes.add(key=names.TURN_ID).value.string_value = "trn_x"
    return request


def span_ids(request):
    """The ids of a request's spans, in hexadecimal."""
    return [span.span_id.hex() for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]


def log_request(*records):
    """A request of log records, each an event name and a body."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for event_name, body in records:
        record = scope.log_records.add()
        record.event_name = event_name
        record.body.string_value = body if isinstance(body, str) else encode_json(body).decode()
    return request


def accepted(turn_id, *, started_at=STARTED, deadline_ms=1000):
    """A `turn.accepted` record."""
    body = TurnAccepted(
        turn_id=turn_id,
        trace_id="b" * 32,
        span_id="c" * 16,
        started_at=started_at,
        deadline_ms=deadline_ms,
        conversation_id="cnv_1",
        service=INFO,
    )
    return (names.RECORD_ACCEPTED, body)


def ended(turn_id, *, failed=False, content=None, **changes):
    """A `turn.done` record, of a done or of an error."""
    event = error() if failed else DONE
    metadata = msgspec.structs.replace(event.metadata, **changes)
    body = TurnDone(
        turn_id=turn_id,
        trace_id="b" * 32,
        span_id="c" * 16,
        ended_at=STARTED,
        terminal="error" if failed else "done",
        answer_chars=11,
        done=None if failed else metadata,
        error=metadata if failed else None,
        error_code="deadline" if failed else None,
        error_message="Too slow." if failed else None,
        retryable=True if failed else None,
        content=content,
    )
    return (names.RECORD_DONE, body)
