"""The fake provider's scripts and the sink's bounds."""

import gzip
import http.client
import json

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lastword.check import sink as module
from lastword.check.provider import FakeProvider, script_of
from lastword.check.sink import Sink
from lastword.check.steps import WORDS, filling


@pytest.fixture
def owner():
    with FakeProvider() as provider:
        yield provider


def question(text, *more, model="smart"):
    """A Messages request: a question, and what followed it."""
    messages = [{"role": "user", "content": [{"type": "text", "text": text}]}]
    return {"model": model, "messages": [*messages, *({"role": role, "content": "x"} for role in more)]}


@pytest.mark.parametrize(
    ("text", "steps", "mark"),
    [
        ("Why?", ["text", "end"], ""),
        ("Why? [[script: text, slow=0.1, cut]] #q1", ["text", "slow=0.1", "cut"], "q1"),
        ("[[script: 529]] Why?", ["529"], ""),
        ("[[script: say=a%2Cb%7C%5D, , end]] #z", ["say=a%2Cb%7C%5D", "end"], "z"),
        ("[[script: cut]] #a then [[script: end]] #b", ["end"], "b"),
        ("[[script: ]] #q", [], "q"),
        ("[[script: text", ["text", "end"], ""),
    ],
)
def test_script_is_found_in_the_prompt(owner, text, steps, mark):
    """Wherever it stands; the newest counts; without one the answer is short and whole."""
    assert script_of(question(text), owner) == (steps, mark)


def test_script_of_a_later_round_stands_behind_the_bar(owner):
    """What the model said before tells the round; the last part goes on for ever."""
    text = "[[script: tool | text, cut | end]] #q"
    rounds = [script_of(question(text, *(["assistant", "user"] * n)), owner)[0] for n in range(4)]
    assert rounds == [["tool"], ["text", "cut"], ["end"], ["end"]]


def test_script_of_a_retry_takes_the_next_part(owner):
    """The same transcript again is another try; another scenario's is not."""
    tries = [script_of(question("[[script: 529 | text, end]] #q"), owner)[0] for _ in range(3)]
    assert tries == [["529"], ["text", "end"], ["text", "end"]]
    assert script_of(question("[[script: 529 | text, end]] #r"), owner)[0] == ["529"]


def test_script_of_another_model_stands_behind_the_roof(owner):
    """The first model that asks gets the first part, the second the second, whatever they are called."""
    text = "[[script: 529 ^ text, end]] #q"
    asked = [script_of(question(text, model=model), owner)[0] for model in ("smart", "fast", "smart")]
    assert asked == [["529"], ["text", "end"], ["529"]]


def call(owner, body):
    """Status and text of one call to the provider."""
    connection = http.client.HTTPConnection("127.0.0.1", owner.port, timeout=10)
    try:
        connection.request("POST", "/v1/messages", body if isinstance(body, bytes) else json.dumps(body).encode())
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def texts(body):
    events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: ")]
    return "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")


def test_provider_speaks_the_messages_protocol(owner):
    """From `message_start` to `message_stop`, with the text of the script; the call is noted with its mark."""
    status, body = call(owner, question("[[script: text, end]] #q1"))
    assert status == 200
    assert "event: message_start" in body
    assert body.rstrip().endswith('data: {"type": "message_stop"}')
    assert texts(body) == "".join(WORDS)
    (made,) = owner.calls_of("q1")
    assert (made.model, made.left_at, len(made.sent)) == ("smart", None, 4)
    assert owner.calls_of("q2") == []


def test_provider_fills_as_its_text_is_told(owner):
    """What a case compares with is what was sent."""
    assert texts(call(owner, question("[[script: fill=10000, end]] #q"))[1]) == filling(10_000)
    assert 10_000 <= len(filling(10_000).encode()) < 10_100


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[1]", b"{}", b'{"messages": 7}'])
def test_provider_refuses_what_is_no_call(owner, body):
    """And does not count it."""
    assert call(owner, body)[0] == 400
    assert not owner.seen


def test_provider_notes_steps_that_it_does_not_know(owner):
    """A typing error in a script shows."""
    call(owner, question("[[script: text, cut, wibble]] #q"))
    assert owner.unknown_steps == []
    with pytest.raises(http.client.HTTPException):
        call(owner, question("[[script: wibble]] #q"))
    assert owner.unknown_steps == ["wibble"]


def test_provider_forgets_its_calls_and_not_that_there_were_some(owner):
    """A long run keeps no memory of the cases before."""
    call(owner, question("[[script: end]] #q"))
    owner.forget()
    assert owner.calls_of("q") == []
    assert owner.seen


def trace(trace_id, *names, padding=0):
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for name in names:
        span = scope.spans.add()
        span.trace_id, span.name = bytes([trace_id]) * 16, name
        span.attributes.add(key="padding").value.string_value = "x" * padding
    return request.SerializeToString()


def record(turn_id, body):
    request = ExportLogsServiceRequest()
    entry = request.resource_logs.add().scope_logs.add().log_records.add()
    entry.event_name, entry.body.string_value = "turn.done", body
    entry.attributes.add(key="lastword.turn.id").value.string_value = turn_id
    return request.SerializeToString()


def post(sink, path, body, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", sink.port, timeout=10)
    try:
        connection.request("POST", path, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_sink_keeps_spans_and_records():
    """As protobuf, packed or not, in pieces or not; what was sent twice counts once."""
    with Sink() as sink:
        assert not sink.heard
        assert post(sink, "/v1/traces", trace(7, "turn", "turn.auth")) == 200
        assert post(sink, "/v1/traces", gzip.compress(trace(7, "turn.stream")), **{"content-encoding": "gzip"}) == 200
        assert post(sink, "/v1/logs", iter([record("t1", "a")[:9], record("t1", "a")[9:]])) == 200
        assert post(sink, "/v1/logs", record("t1", "a")) == 200
        assert post(sink, "/v1/logs", record("t1", "b")) == 200
        assert [span.name for span in sink.spans_of("07" * 16)] == ["turn", "turn.auth", "turn.stream"]
        assert [one.body for one in sink.records_of("t1", "turn.done")] == ["a", "b"]
        assert sink.records_of("t2", "turn.done") == []
        assert sink.holds("turn.stream")
        assert not sink.holds("turn.retrieval")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"\xff\xff\xff", {}),
        (b"no gzip", {"content-encoding": "gzip"}),
        (b"x", {"content-length": "wibble"}),
        (b"x", {"content-length": "-1"}),
        (b"x", {"content-length": str(module.MAX_PAYLOAD + 1)}),
    ],
)
def test_sink_refuses_what_it_cannot_read(body, headers):
    """With 400, and keeps nothing of it."""
    with Sink() as sink:
        assert post(sink, "/v1/traces", body, **headers) == 400
        assert not sink.heard


def test_sink_unpacks_no_more_than_its_bound(monkeypatch):
    """A few packed bytes may stand for gigabytes."""
    monkeypatch.setattr(module, "MAX_PAYLOAD", 100_000)
    with Sink() as sink:
        bomb = gzip.compress(trace(7, "turn", padding=1_000_000))
        assert len(bomb) < 10_000
        assert post(sink, "/v1/traces", bomb, **{"content-encoding": "gzip"}) == 400
        assert not sink.heard


@pytest.mark.parametrize("padding", [0, 5000], ids=["many small spans", "few large ones"])
def test_sink_forgets_the_oldest_beyond_its_bound(padding):
    """Payloads, spans and records alike: what is kept stays below the bound, and the newest is there."""
    sink = Sink(max_bytes=50_000)
    try:
        for number in range(1, 101):
            sink.take("/v1/traces", trace(number, "turn", padding=padding))
            sink.take("/v1/logs", record(f"t{number}", f"body{number}."))
        kept = [number for number in range(1, 101) if sink.spans_of(bytes([number]).hex() * 16)]
        assert kept == list(range(kept[0], 101))
        assert 1 < kept[0] < 100
        assert sink.records_of("t100", "turn.done")
        assert not sink.records_of("t1", "turn.done")
        assert not sink.holds("body1.")
        assert sum(export.cost for export in sink._exports) <= 50_000
        assert sink.heard
    finally:
        sink._server.server_close()


def test_sink_has_heard_even_what_it_could_not_keep():
    """A request that is larger than the bound is gone, and was there."""
    sink = Sink(max_bytes=100)
    try:
        sink.take("/v1/traces", trace(7, "turn", padding=1000))
        assert sink.heard
        assert sink.spans_of("07" * 16) == []
    finally:
        sink._server.server_close()
