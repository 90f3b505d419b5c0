"""What leaves the process: spans as the tree says, records as the official encoding."""

import gzip

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from lastword.events import ServiceInfo
from service.spans import Span, SpanEvent
from service.store.data import Record
from service.telemetry import Telemetry, read_rejections

INFO = ServiceInfo(name="lastword", version="1", instance="i")
ANCHOR = 1_700_000_000_000_000_000
TREE = Span(
    name="turn",
    kind="server",
    start_ns=0,
    end_ns=90,
    attributes={"a": 1},
    error_type="provider_error",
    events=[SpanEvent("retry", 40, {"n": 1})],
    children=[
        Span(name="turn.attempt", start_ns=10, end_ns=80, children=[Span(name="chat m", kind="client", start_ns=20, end_ns=30)])
    ],
)


class Failing(InMemorySpanExporter):
    def export(self, spans):
        return SpanExportResult.FAILURE


def test_tree_is_sent_with_its_own_times_and_parents():
    """Names, kinds, times, events, status and parents are those of the tree; the trace of the caller is continued."""
    memory = InMemorySpanExporter()
    telemetry = Telemetry(INFO, memory)
    turn = telemetry.begin(ANCHOR, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None)
    telemetry.end(turn, TREE, ANCHOR)
    telemetry.close(5000)
    spans = {span.name: span for span in memory.get_finished_spans()}
    assert {name: (span.start_time - ANCHOR, span.end_time - ANCHOR, span.kind) for name, span in spans.items()} == {
        "turn": (0, 90, SpanKind.SERVER),
        "turn.attempt": (10, 80, SpanKind.INTERNAL),
        "chat m": (20, 30, SpanKind.CLIENT),
    }
    root = spans["turn"]
    assert (turn.trace_id, f"{root.parent.span_id:016x}") == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert (root.status.status_code, root.attributes["error.type"]) == (StatusCode.ERROR, "provider_error")
    assert spans["turn.attempt"].status.status_code is StatusCode.UNSET
    assert [(event.name, event.timestamp - ANCHOR) for event in root.events] == [("retry", 40)]
    assert spans["chat m"].parent.span_id == spans["turn.attempt"].context.span_id
    assert (telemetry.exporter.sent, telemetry.exporter.lost) == (3, 0)


def test_caller_of_a_public_service_becomes_a_link():
    """Where parents are not continued, the caller's trace is linked and a new one begins."""
    memory = InMemorySpanExporter()
    telemetry = Telemetry(INFO, memory, continue_parent=False)
    turn = telemetry.begin(ANCHOR, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None)
    telemetry.end(turn, TREE, ANCHOR)
    telemetry.close(5000)
    root = next(span for span in memory.get_finished_spans() if span.name == "turn")
    assert root.parent is None
    assert [f"{link.context.trace_id:032x}" for link in root.links] == ["0af7651916cd43dd8448eb211c80319c"]
    assert turn.trace_id != "0af7651916cd43dd8448eb211c80319c"


def test_lost_spans_are_counted():
    """A collector that takes nothing costs spans, and that can be seen."""
    telemetry = Telemetry(INFO, Failing())
    telemetry.end(telemetry.begin(ANCHOR, None, None), TREE, ANCHOR)
    telemetry.close(5000)
    assert (telemetry.exporter.sent, telemetry.exporter.lost) == (0, 3)


def test_records_are_log_records_with_trace_and_json():
    """Event name, ids, time and body, as OTLP says them."""
    telemetry = Telemetry(INFO, InMemorySpanExporter())
    record = Record(event_name="turn.done", turn_id="t", trace_id="ab" * 16, span_id="cd" * 8, time_ns=7, body='{"x":1}')
    request = ExportLogsServiceRequest.FromString(gzip.decompress(telemetry.encode_records([record])))
    telemetry.close(5000)
    sent = request.resource_logs[0].scope_logs[0].log_records[0]
    assert (sent.event_name, sent.time_unix_nano, sent.body.string_value) == ("turn.done", 7, '{"x":1}')
    assert (sent.trace_id.hex(), sent.span_id.hex()) == ("ab" * 16, "cd" * 8)
    assert {item.key: item.value.string_value for item in sent.attributes} == {"lastword.turn.id": "t"}


def test_rejections_are_read():
    """A partial success tells how many and why."""
    answer = ExportLogsServiceResponse()
    answer.partial_success.rejected_log_records = 2
    answer.partial_success.error_message = "because"
    assert read_rejections(answer.SerializeToString()) == (2, "because")
    assert read_rejections(b"") == (0, "")
