"""OTLP spans to rows. Pure. A span that cannot be stored is rejected with its reason; its neighbours are not harmed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, SpanFlags

from collector.receive.attributes import AttributeLimits, Memo, as_json, plain_attributes
from collector.receive.lazy import LazyRequest
from collector.receive.meaning import MEANT, meaning
from collector.store.batches import Ordered
from collector.store.tables import SPANS
from lastword import names

MAX_NS = 2**63 - 1
MAX_EVENTS = 256
MAX_NAME_CHARS = 512
MAX_PROBLEMS = 100
"""Problems of one request that are put into words; all are counted."""

_KINDS = dict(enumerate(("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")))
_STATUSES = dict(enumerate(("UNSET", "OK", "ERROR")))
READ = MEANT | {names.TURN_ID}
"""Names of attributes that a row is made of."""
_MEANT_COLUMNS = SPANS.names[SPANS.names.index("links") + 1 : SPANS.names.index("remote_parent")]
_NOTHING_MEANT = (None,) * len(_MEANT_COLUMNS)
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
_REMOTE_PARENT = int(SpanFlags.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK)


def span_rows(request: Any, memo: Memo) -> tuple[list[Ordered], list[str]]:
    """The rows of a request, lazy or not, with the columns of `SPANS`, and why each rejected span was rejected. Attributes are looked up in a memo, which also bounds them."""
    if isinstance(request, ExportTraceServiceRequest):
        request = LazyRequest.FromString(request.SerializeToString())
    rows: list[Ordered] = []
    rejected: list[str] = []
    for resource in request.resource_spans:
        service = str(plain_attributes(resource.resource.attributes, memo.limits).get("service.name", "")) or None
        for scope in resource.scope_spans:
            scope_name = scope.scope.name or None
            for span in scope.spans:
                try:
                    rows.append(_row(span, service, scope_name, memo))
                except (_Unfit, DecodeError, ArithmeticError, ValueError) as error:
                    problem = f"span {span.name[:80]!r}: {error or 'an attribute cannot be decoded'}"
                    rejected.append(problem if len(rejected) < MAX_PROBLEMS else "another one")
    return rows, rejected


class _Unfit(Exception):
    """A span cannot be stored."""


def _check(trace_id: bytes, span_id: bytes, start_ns: int, end_ns: int) -> None:
    if len(trace_id) != 16 or trace_id == _NO_TRACE:
        raise _Unfit(f"trace id of {len(trace_id)} bytes; 16 that are not all zero are expected")
    if len(span_id) != 8 or span_id == _NO_SPAN:
        raise _Unfit(f"span id of {len(span_id)} bytes; 8 that are not all zero are expected")
    if not 0 < start_ns <= MAX_NS or not 0 < end_ns <= MAX_NS:
        raise _Unfit("start or end is missing or out of range")
    if end_ns < start_ns:
        raise _Unfit("it ends before it starts")


def _row(span: Any, service: str | None, scope: str | None, memo: Memo) -> Ordered:
    """The row of a span of a `LazyRequest`. Every field is read once: reading is most of the work."""
    trace_id, span_id = span.trace_id, span.span_id
    start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
    _check(trace_id, span_id, start_ns, end_ns)
    attributes, text = memo.read(span.attributes)
    turn_id = attributes.get(names.TURN_ID)
    events, links, status = span.events, span.links, span.status
    events = list(_events(events, memo.limits)) if events else []
    meant = meaning(attributes, events, start_ns)
    return (
        trace_id.hex(),
        span_id.hex(),
        span.parent_span_id.hex() or None,
        turn_id if isinstance(turn_id, str) else None,
        span.name[:MAX_NAME_CHARS],
        _KINDS.get(span.kind, _KINDS[0]),
        _STATUSES.get(status.code, _STATUSES[0]),
        status.message[: memo.limits.chars] or None,
        start_ns,
        end_ns - start_ns,
        service,
        scope,
        text,
        as_json(events) if events else "[]",
        as_json([{"traceId": link.trace_id.hex(), "spanId": link.span_id.hex()} for link in links[:MAX_EVENTS]])
        if links
        else "[]",
        *(map(meant.get, _MEANT_COLUMNS) if meant else _NOTHING_MEANT),
        bool(span.flags & _REMOTE_PARENT),
        meant.get("pending"),
    )


def _events(events: Iterable[Span.Event], limits: AttributeLimits) -> Iterable[dict[str, Any]]:
    for number, event in enumerate(events):
        if number >= MAX_EVENTS:
            return
        yield {
            "name": event.name[:MAX_NAME_CHARS],
            "timeNs": event.time_unix_nano,
            "attributes": plain_attributes(event.attributes, limits),
        }
