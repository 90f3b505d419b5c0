"""Turns as OTLP requests: their spans, and their records. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from collector.synthetic.world import SERVICE, SyntheticTurn
from lastword import names
from lastword.events import TurnAccepted, TurnDone
from lastword.wire import encode_json


def _any(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, (list, tuple)):
        return AnyValue(array_value=ArrayValue(values=[_any(each) for each in value]))
    return AnyValue(string_value=str(value))


def _attributes(values: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_any(value)) for name, value in values.items()]


_RESOURCE = Resource(
    attributes=_attributes(
        {"service.name": SERVICE.name, "service.version": SERVICE.version, "service.instance.id": SERVICE.instance}
    )
)


def span_request(turns: Sequence[SyntheticTurn]) -> ExportTraceServiceRequest:
    """The span trees of turns as one OTLP request. A turn that never ended has sent the spans below its root, and not the root."""
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add(resource=_RESOURCE).scope_spans.add()
    scope.scope.name = "lastword.service"
    for turn in turns:
        rng = random.Random(turn.accepted.span_id)
        root_id = bytes.fromhex(turn.accepted.span_id)
        trace_id = bytes.fromhex(turn.accepted.trace_id)
        stack = [(turn.root, root_id, b"")]
        while stack:
            node, span_id, parent_id = stack.pop()
            stack += [(child, rng.randbytes(8), span_id) for child in node.children]
            if node is turn.root and turn.done is None:
                continue
            error = {names.ERROR_TYPE: node.error} if node.error else {}
            scope.spans.add(
                trace_id=trace_id,
                span_id=span_id,
                parent_span_id=parent_id,
                name=node.name,
                kind=node.kind,
                start_time_unix_nano=turn.start_ns + node.start,
                end_time_unix_nano=turn.start_ns + node.end,
                attributes=_attributes({**node.attributes, **error, names.TURN_ID: turn.accepted.turn_id}),
                events=[
                    Span.Event(name=name, time_unix_nano=turn.start_ns + at, attributes=_attributes(values))
                    for name, at, values in node.events
                ],
                status=Status(code=Status.STATUS_CODE_ERROR) if node.error else Status(),
            )
    return request


def record_request(turns: Sequence[SyntheticTurn]) -> ExportLogsServiceRequest:
    """The records of turns as one OTLP request: each turn's `turn.accepted`, and its `turn.done` where it ended."""
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add(resource=_RESOURCE).scope_logs.add()
    scope.scope.name = "lastword.service"
    for turn in turns:
        bodies: list[tuple[str, TurnAccepted | TurnDone, int]] = [(names.RECORD_ACCEPTED, turn.accepted, turn.start_ns)]
        if turn.done is not None:
            bodies.append((names.RECORD_DONE, turn.done, turn.start_ns + turn.root.end))
        for event_name, body, at in bodies:
            scope.log_records.add(
                time_unix_nano=at,
                observed_time_unix_nano=at,
                event_name=event_name,
                severity_number=9,
                body=AnyValue(string_value=encode_json(body).decode()),
                attributes=_attributes({names.TURN_ID: body.turn_id}),
                trace_id=bytes.fromhex(body.trace_id),
                span_id=bytes.fromhex(body.span_id),
            )
    return request
