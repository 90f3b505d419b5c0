"""OpenTelemetry: the only module of the service that imports it.

Sends what `spans` built, and encodes turn records with the official OTLP encoder. Spans are best effort and go through the batch processor; records are
sent by `outbox`, which keeps them until the collector has acknowledged them. Nothing in here can slow a turn's worker: the batch processor's queue is
bounded and drops.
"""

from __future__ import annotations

import gzip
import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec import Struct
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lastword import __version__, names
from lastword.events import ServiceInfo
from service.spans import Attributes, Span
from service.store.data import Record

logger = logging.getLogger(__name__)

SCOPE = "lastword.service"
SPAN_DELAY_MS = 500
SPAN_QUEUE = 8192
SPAN_BATCH = 512

_KINDS = {"server": trace.SpanKind.SERVER, "client": trace.SpanKind.CLIENT, "internal": trace.SpanKind.INTERNAL}


class TurnTrace(Struct, frozen=True):
    """The trace of one turn: its ids in hexadecimal, and the SDK's root span."""

    trace_id: str
    span_id: str
    root: Any


class CountingExporter(SpanExporter):
    """Hands batches on and counts what became of them: spans are best effort, and what is lost has to be seen."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self.sent = 0
        self.lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Exports a batch; called by the batch processor's one thread."""
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.sent += len(spans)
        else:
            self.lost += len(spans)
        return result

    def shutdown(self) -> None:
        """Ends the exporter and its retries."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing is held here."""
        return self._exporter.force_flush(timeout_millis)


class Telemetry:
    """The process's way out for spans. Thread-safe."""

    def __init__(
        self, info: ServiceInfo, exporter: SpanExporter, *, sample_ratio: float = 1.0, continue_parent: bool = True
    ) -> None:
        self._resource = Resource.create(
            {"service.name": info.name, "service.version": info.version, "service.instance.id": info.instance}
        )
        self._provider = TracerProvider(
            resource=self._resource, sampler=ParentBased(TraceIdRatioBased(sample_ratio)), shutdown_on_exit=False
        )
        self.exporter = CountingExporter(exporter)
        self._provider.add_span_processor(
            BatchSpanProcessor(
                self.exporter, max_queue_size=SPAN_QUEUE, schedule_delay_millis=SPAN_DELAY_MS, max_export_batch_size=SPAN_BATCH
            )
        )
        self._tracer = self._provider.get_tracer(SCOPE, __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._continue_parent = continue_parent

    def begin(self, start_ns: int, traceparent: str | None, tracestate: str | None) -> TurnTrace:
        """Opens the root span of a turn. A malformed `traceparent` starts a new trace; `start_ns` counts from 1970."""
        carrier = {"traceparent": traceparent or "", "tracestate": tracestate or ""}
        parent = self._propagator.extract(carrier, context=Context())
        links: list[trace.Link] = []
        if not self._continue_parent:
            caller = trace.get_current_span(parent).get_span_context()
            links = [trace.Link(caller)] if caller.is_valid else []
            parent = Context()
        root = self._tracer.start_span(
            names.SPAN_TURN, context=parent, kind=trace.SpanKind.SERVER, start_time=start_ns, links=links
        )
        context = root.get_span_context()
        return TurnTrace(trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id), root)

    def end(self, turn: TurnTrace, tree: Span, anchor_ns: int) -> None:
        """Sends a turn's tree. `anchor_ns` is the turn's acceptance in nanoseconds since 1970."""
        self._fill(turn.root, tree, anchor_ns)
        self._children(turn.root, tree, anchor_ns)
        turn.root.end(end_time=anchor_ns + tree.end_ns)

    def viewer(self, turn: TurnTrace, anchor_ns: int, span: Span) -> None:
        """Sends the span of one viewer, below the turn's root, which may have ended."""
        self._send(turn.root, span, anchor_ns)

    def _children(self, parent: trace.Span, tree: Span, anchor_ns: int) -> None:
        for child in tree.children:
            self._send(parent, child, anchor_ns)

    def _send(self, parent: trace.Span, node: Span, anchor_ns: int) -> None:
        span = self._tracer.start_span(
            node.name,
            context=trace.set_span_in_context(parent, Context()),
            kind=_KINDS[node.kind],
            start_time=anchor_ns + node.start_ns,
        )
        self._fill(span, node, anchor_ns)
        self._children(span, node, anchor_ns)
        span.end(end_time=anchor_ns + node.end_ns)

    @staticmethod
    def _fill(span: trace.Span, node: Span, anchor_ns: int) -> None:
        span.set_attributes(node.attributes)
        for event in node.events:
            span.add_event(event.name, event.attributes, timestamp=anchor_ns + event.at_ns)
        if node.error_type is not None:
            span.set_attribute(names.ERROR_TYPE, node.error_type)
            span.set_status(trace.StatusCode.ERROR)

    def encode_records(self, records: Iterable[Record]) -> bytes:
        """Turn records as a gzipped OTLP logs request, each with its trace and span and its JSON as the body."""
        scope = InstrumentationScope(SCOPE, __version__)
        batch: Sequence[ReadableLogRecord] = [
            ReadableLogRecord(_log_record(record), resource=self._resource, instrumentation_scope=scope) for record in records
        ]
        return gzip.compress(encode_logs(batch).SerializeToString(), compresslevel=3)

    def close(self, timeout_ms: int) -> None:
        """Sends what is queued, within a bound, and ends the exporter's thread.

        The processor's own flush waits for the exporter's retries however long they take, so it is waited for in a thread of its own, and
        the exporter is shut down after the bound, which ends its retries.
        """
        flush = threading.Thread(target=self._provider.force_flush, name="span-flush", daemon=True)
        flush.start()
        flush.join(timeout_ms / 1000)
        if flush.is_alive():
            logger.warning("spans were lost: the collector could not be reached within %d ms", timeout_ms)
            self.exporter.shutdown()
        self._provider.shutdown()


def _log_record(record: Record) -> LogRecord:
    context = trace.set_span_in_context(
        trace.NonRecordingSpan(
            trace.SpanContext(
                int(record.trace_id, 16), int(record.span_id, 16), is_remote=False, trace_flags=trace.TraceFlags(1)
            )
        ),
        Context(),
    )
    attributes: Attributes = {names.TURN_ID: record.turn_id}
    return LogRecord(
        timestamp=record.time_ns,
        observed_timestamp=record.time_ns,
        context=context,
        severity_text="INFO",
        severity_number=SeverityNumber.INFO,
        body=record.body,
        attributes=attributes,
        event_name=record.event_name,
    )


def read_rejections(body: bytes) -> tuple[int, str]:
    """How many records a collector's answer says it rejected for good, and why."""
    partial = ExportLogsServiceResponse.FromString(body).partial_success
    return partial.rejected_log_records, partial.error_message


def otlp_exporter(collector_url: str, token: str = "") -> OTLPSpanExporter:
    """The exporter over OTLP/HTTP with gzip to a collector's base address, with a bearer token where the collector asks for one."""
    logging.getLogger("opentelemetry.exporter").setLevel(logging.ERROR)  # it warns at every retry; the outbox warns once
    return OTLPSpanExporter(
        endpoint=f"{collector_url.rstrip('/')}/v1/traces",
        headers={"authorization": f"Bearer {token}"} if token else None,
        compression=Compression.Gzip,
        timeout=5,
    )
