"""What real senders send arrives whole: every span that the sender's own SDK ended is a row, field by field, and the trace is a turn."""

import json

import pytest

from tests.integration.senders.conftest import HERE, run
from tests.support.built import BUILD_S
from tests.support.product import wait_for

pytestmark = pytest.mark.timeout(2 * BUILD_S + 60)  # the first test waits for both environments

PROGRAMS = HERE / "programs"
_FIELDS = "trace_id, span_id, parent_span_id, name, kind, status, status_message, start_ns, duration_ns, service_name, scope_name, attributes, events, links"
_MEANING = "operation, model, input_tokens, output_tokens, first_token_ms, finish_reason"
_TURN = "model, conversation_id, input_tokens, output_tokens, service_name, origin"


def arrived(collector, told):
    """Compares the rows of the traces with what the sender said of them, and returns the trace's id."""
    spans = [as_row(span) for span in told["spans"]]
    (trace_id,) = {span["trace_id"] for span in spans}
    sql = f"select {_FIELDS} from spans where trace_id = '{trace_id}' order by span_id"
    wait_for(lambda: len(collector.rows(sql)) >= len(spans), 20, "every span is a row")
    rows = collector.rows(sql)
    found = [dict(zip(_FIELDS.split(", "), row, strict=True)) for row in rows]
    for row in found:
        row |= {name: json.loads(row[name]) for name in ("attributes", "events", "links")}
    assert found == sorted(spans, key=lambda span: span["span_id"])
    return trace_id


def as_row(span):
    """JavaScript has no whole numbers of 64 bits: its program writes them as text."""
    events = [event | {"timeNs": int(event["timeNs"])} for event in span["events"]]
    return span | {"start_ns": int(span["start_ns"]), "duration_ns": int(span["duration_ns"]), "events": events}


def meaning(collector, trace_id, operation="chat"):
    """What the call's row says in the columns of its own."""
    return collector.rows(f"select {_MEANING} from spans where trace_id = '{trace_id}' and operation = '{operation}'")


def turn(collector, trace_id):
    """The turn of a trace, once it is made."""
    return wait_for(
        lambda: collector.rows(f"select {_TURN} from turns where turn_id = '{trace_id}'"), 20, "the trace is a turn"
    )


@pytest.mark.parametrize(("protocol", "compression"), [("http", "gzip"), ("http", "none"), ("grpc", "gzip")])
def test_python_exporters_arrive_whole(python, collector, protocol, compression):
    """Over HTTP and gRPC, compressed or not."""
    url = collector.grpc_url if protocol == "grpc" else collector.url
    told, _ = run([python, PROGRAMS / "otlp.py", protocol, url, compression])
    trace_id = arrived(collector, told)
    assert len(told["spans"]) == 2
    assert meaning(collector, trace_id) == [["chat", "model-1", 11, 7, 50, "end_turn"]]
    assert turn(collector, trace_id) == [["model-1", "c1", 11, 7, "python", "spans"]]


def test_opentelemetry_instrument_arrives_whole(python, collector):
    """A program that knows nothing of exporters, run under it, and the call that it instruments by itself."""
    told, _ = run(
        [python.with_name("opentelemetry-instrument"), python, PROGRAMS / "instrumented.py", f"{collector.url}/health/live"],
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.grpc_url,
        OTEL_SERVICE_NAME="instrumented",
    )
    trace_id = arrived(collector, told)
    assert [span["scope_name"] for span in told["spans"]] == ["opentelemetry.instrumentation.requests", "hand", "hand"]
    assert turn(collector, trace_id) == [["model-1", "c1", 11, 7, "instrumented", "spans"]]


@pytest.mark.parametrize("protocol", ["json", "proto", "grpc"])
def test_javascript_exporters_arrive_whole(javascript, collector, protocol):
    """Its three exporters, with the Vercel AI SDK's names for a call."""
    url = collector.grpc_url if protocol == "grpc" else collector.url
    told, _ = run(["node", PROGRAMS / "send.mjs", protocol, url], cwd=javascript)
    trace_id = arrived(collector, told)
    assert len(told["spans"]) == 2
    assert meaning(collector, trace_id) == [["chat", "model-1", 11, 7, 50, "stop"]]
    assert turn(collector, trace_id) == [["model-1", "c1", 11, 7, "javascript", "spans"]]


CALLS = {
    "openinference": ["chat", "claude-fake", 16, 7, None, "end_turn"],
    "openllmetry": ["chat", "claude-fake", 16, 8, None, "stop"],
}
"""What each says of one and the same answer: the counts of tokens and the words are theirs."""


@pytest.mark.parametrize("sender", CALLS)
def test_instrumented_client_of_a_model_arrives_whole(python, collector, model, sender):
    """A streamed answer of a local model, through each instrumentation of the same client, under a root of our own."""
    told, _ = run([python, PROGRAMS / "ask_model.py", sender, collector.url, model.url])
    trace_id = arrived(collector, told)
    assert meaning(collector, trace_id) == [CALLS[sender]]
    assert turn(collector, trace_id) == [["claude-fake", "c1", *CALLS[sender][2:4], sender, "spans"]]


def test_logfire_arrives_whole_with_its_pending_spans_apart(python, collector, model):
    """As it sends to its own backend: the placeholder of a span that was open at a flush is stored, and counted nowhere.

    On a slow machine the call of the model may be open at a flush of its own, and has a placeholder then, too.
    """
    told, _ = run([python, PROGRAMS / "ask_model.py", "logfire", collector.url, model.url])
    trace_id = arrived(collector, told)
    root = told["spans"][-1]
    pending = collector.rows(f"select parent_span_id from store.spans where trace_id = '{trace_id}' and pending")
    assert [root["span_id"]] in pending
    assert {span_id for (span_id,) in pending} <= {span["span_id"] for span in told["spans"]}
    assert turn(collector, trace_id) == [["claude-fake", "c1", 16, 7, "logfire", "spans"]]


def test_langfuse_arrives_whole_at_its_own_path(python, collector):
    """Basic authentication with the token as its secret key; its own names for tokens and for the first token."""
    told, _ = run([python, PROGRAMS / "ask_model.py", "langfuse", collector.url, collector.url])
    trace_id = arrived(collector, told)
    (call,) = meaning(collector, trace_id)
    assert call[:4] == ["chat", "model-1", 11, 7]
    assert call[4] >= 0
    assert turn(collector, trace_id) == [["model-1", "c1", 11, 7, "langfuse", "spans"]]
