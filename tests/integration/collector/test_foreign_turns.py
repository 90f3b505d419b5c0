"""Services that send spans alone show turns; those that send records keep theirs."""

import secrets

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.derive import deriver
from tests.integration.collector.conftest import Collector, start
from tests.support.otlp import NS, ended, log_request
from tests.support.product import wait_for

MS = 1_000_000
CONVENTIONS = {
    "otel": {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "anthropic",
        "gen_ai.response.model": "m",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.response.time_to_first_chunk": 0.05,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.conversation.id": "c1",
    },
    "older": {
        "gen_ai.system": "anthropic",
        "gen_ai.request.model": "m",
        "gen_ai.usage.prompt_tokens": 11,
        "gen_ai.usage.completion_tokens": 7,
        "gen_ai.server.time_to_first_token": 0.05,
        "gen_ai.response.finish_reasons": ["stop"],
        "session.id": "c1",
    },
    "openinference": {
        "openinference.span.kind": "LLM",
        "llm.provider": "anthropic",
        "llm.model_name": "m",
        "llm.token_count.prompt": 11,
        "llm.token_count.completion": 7,
        "llm.finish_reason": "stop",
        "session.id": "c1",
        "event": "First Token Stream Event",
    },
    "langfuse": {
        "langfuse.observation.type": "generation",
        "gen_ai.system": "anthropic",
        "langfuse.observation.model.name": "m",
        "langfuse.observation.usage_details": '{"input": 11, "output": 7}',
        "langfuse.observation.completion_start_time": '"2023-11-14T22:13:20.150Z"',
        "llm.finish_reason": "stop",
        "langfuse.session.id": "c1",
    },
    "vercel": {
        "ai.operationId": "ai.streamText.doStream",
        "ai.model.provider": "anthropic",
        "ai.model.id": "m",
        "ai.usage.promptTokens": 11,
        "ai.usage.completionTokens": 7,
        "ai.response.msToFirstChunk": 50,
        "ai.response.finishReason": "stop",
        "ai.telemetry.metadata.sessionId": "c1",
    },
    "openllmetry": {
        "llm.request.type": "chat",
        "gen_ai.system": "anthropic",
        "gen_ai.request.model": "m",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.completion.0.finish_reason": "stop",
        "traceloop.association.properties.session_id": "c1",
        "event": "llm.content.completion.chunk",
    },
}


def build(trace_id, *spans):
    """A request of spans: (name, start ms, end ms, parent, attributes). A span's id is its name."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "shop"
    scope = resource.scope_spans.add()
    for name, start_ms, end_ms, parent, attributes in spans:
        span = scope.spans.add(name=name, trace_id=trace_id, span_id=_id(name), parent_span_id=_id(parent) if parent else b"")
        span.start_time_unix_nano, span.end_time_unix_nano = NS + start_ms * MS, NS + end_ms * MS
        for key, value in attributes.items():
            if key == "event":
                span.events.add(name=value, time_unix_nano=span.start_time_unix_nano + 50 * MS)
                continue
            target = span.attributes.add(key=key).value
            match value:
                case int():
                    target.int_value = value
                case float():
                    target.double_value = value
                case str():
                    target.string_value = value
                case list():
                    for item in value:
                        target.array_value.values.add().string_value = item
    return request


def _id(name):
    return name.encode().ljust(8, b".")[:8]


@pytest.fixture
def quick(tmp_path):
    """A collector that makes turns of traces at once."""
    client, parts = start(tmp_path, commit_wait_ms=1, spans_settle_ms=0)
    with client:
        yield Collector(client, parts)


def turns(collector, count):
    """The derived turns, once there are so many."""
    sql = "select turn_id from turns where origin = 'spans' order by turn_id"
    wait_for(lambda: len(collector.rows(sql)) >= count, 30, f"{count} turns are made")
    wait_for(lambda: collector.parts.deriver.waiting == 0, 30, "nothing waits")
    return [row[0] for row in collector.rows(sql)]


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_convention_fills_the_same_columns(quick, convention):
    """One turn in each convention's own names: the same row of spans and the same turn."""
    trace = secrets.token_bytes(16)
    attributes = CONVENTIONS[convention]
    request = build(trace, ("ask", 0, 400, None, {}), ("call", 100, 300, "ask", attributes))
    assert quick.send("traces", request).status_code == 200
    assert turns(quick, 1) == [trace.hex()]
    assert quick.rows(
        "select operation, provider, model, conversation_id, input_tokens, output_tokens, finish_reason, first_token_ms from spans where name = 'call'"
    ) == [["chat", "anthropic", "m", "c1", 11, 7, "stop", 50]]
    assert quick.rows(
        "select span_id, conversation_id, terminal, completion_status, partial, broken, model, finish_reason, input_tokens, output_tokens, "
        "model_wait_ms, stream_ms, first_token_ms, total_ms, service_name, sources, sources_count, tools_used from turns"
    ) == [
        [_id("ask").hex(), "c1", "done", "success", False, False, "m", "stop", 11, 7, 50, 150, 150, 400, "shop", None, None, []]
    ]
    assert quick.rows("select sum(turns), sum(broken) from partial_rate_per_minute") == [[1, 0]]


def test_record_is_never_replaced_nor_doubled(quick):
    """A trace with a turn's id, and one whose record names it, make no turn of their own; what is sent again makes none either."""
    marked = build(
        secrets.token_bytes(16), ("ask", 0, 9, None, {"lastword.turn.id": "t9"}), ("call", 1, 2, "ask", CONVENTIONS["otel"])
    )
    recorded = build(bytes.fromhex("b" * 32), ("ask", 0, 9, None, {}), ("call", 1, 2, "ask", CONVENTIONS["otel"]))
    foreign = build(bytes.fromhex("c" * 32), ("ask", 0, 9, None, {}), ("call", 1, 2, "ask", CONVENTIONS["otel"]))
    for span in recorded.resource_spans[0].scope_spans[0].spans:  # the record's own time
        span.start_time_unix_nano += _record_shift_ns(quick)
        span.end_time_unix_nano += _record_shift_ns(quick)
    quick.send("logs", log_request(ended("t1")))
    before = quick.rows("select * from turns")
    for request in (marked, recorded, foreign, foreign):
        assert quick.send("traces", request).status_code == 200
    assert turns(quick, 1) == ["c" * 32]
    assert quick.rows("select * from turns where origin = 'record'") == before
    assert quick.rows("select count(*) from turns") == [[2]]


def _record_shift_ns(collector):
    from tests.unit.lastword.samples import STARTED

    return int(STARTED.timestamp()) * 1_000_000_000 - NS


def test_children_may_come_after_their_root(tmp_path):
    """Within the time to settle, in whatever order and however many requests."""
    client, parts = start(tmp_path, commit_wait_ms=1, spans_settle_ms=400)
    with client:
        collector = Collector(client, parts)
        trace = secrets.token_bytes(16)
        collector.send("traces", build(trace, ("ask", 0, 400, None, {})))
        collector.send("traces", build(trace, ("call", 100, 300, "ask", CONVENTIONS["otel"])))
        assert turns(collector, 1) == [trace.hex()]
        assert collector.rows("select input_tokens from turns") == [[11]]


def test_restart_makes_the_turns_that_were_not_made(tmp_path, monkeypatch):
    """A collector that ended before the spans had settled makes their turns when it is there again, once."""
    monkeypatch.setattr(deriver, "LOOK_BACK_S", 10**9)
    trace = secrets.token_bytes(16)
    request = build(trace, ("ask", 0, 400, None, {}), ("call", 100, 300, "ask", CONVENTIONS["otel"]))
    client, parts = start(tmp_path, spans_settle_ms=600_000)
    with client:
        assert Collector(client, parts).send("traces", request).status_code == 200
    for _ in range(2):
        client, parts = start(tmp_path, spans_settle_ms=0)
        with client:
            assert turns(Collector(client, parts), 1) == [trace.hex()]


def test_traces_that_wait_are_bounded_and_what_is_let_go_is_counted(tmp_path):
    """Beyond the limit the oldest goes, and /metrics tells."""
    client, parts = start(tmp_path, commit_wait_ms=1, spans_settle_ms=600_000, spans_traces=2)
    with client:
        collector = Collector(client, parts)
        for _ in range(3):
            request = build(secrets.token_bytes(16), ("ask", 0, 400, None, CONVENTIONS["otel"]))
            collector.send("traces", request)
        text = collector.http.get("/metrics").text
        assert "lastword_traces_waiting 2.0" in text
        assert "lastword_traces_dropped 1.0" in text


def test_pending_spans_are_no_spans_and_no_turns(quick):
    """Logfire's placeholder is stored, and counted nowhere; the span that follows it is."""
    trace = secrets.token_bytes(16)
    pending = {"logfire.span_type": "pending_span", "logfire.pending_parent_id": "0" * 16, **CONVENTIONS["otel"]}
    quick.send("traces", build(trace, ("pend", 100, 100, "call", pending), ("root pen", 0, 0, None, pending)))
    assert quick.rows("select count(*) from spans") == [[0]]
    assert quick.http.get("/v1/status").json()["spans"] == 0
    quick.send("traces", build(trace, ("ask", 0, 400, None, {}), ("call", 100, 300, "ask", CONVENTIONS["otel"])))
    assert turns(quick, 1) == [trace.hex()]
    assert quick.rows("select count(*), sum(input_tokens) from spans") == [[2, 11]]
    assert quick.rows("select input_tokens from turns") == [[11]]


def test_turns_of_spans_stand_apart_from_sources(quick):
    """Nobody knows what a foreign answer rests on: it does not count as one without a source."""
    quick.send("traces", build(secrets.token_bytes(16), ("ask", 0, 400, None, CONVENTIONS["otel"])))
    turns(quick, 1)
    assert quick.rows("select sum(n), sum(without_source), sum(input_tokens) from turn_minutes") == [[1, 0, 11]]
    assert quick.rows("select count(*) from source_counts") == [[0]]
