"""Receiving: what arrives is stored once, what cannot be stored is told, and nothing harms its neighbours."""

import base64
import gzip
import json
import random
import re
import resource

import duckdb
import pytest
import zstandard
from google.protobuf.json_format import MessageToDict
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.receive.encodings import JSON, PROTOBUF
from collector.store.hot import StoreError
from collector.store.store import Store
from lastword.events import CompletionStatus, Reason, TurnContent
from tests.integration.collector.conftest import Collector, start
from tests.support.otlp import accepted, ended, log_request, span_ids, spans
from tests.support.product import ROOT


def wide_zstd():
    """A body with an unknown field, which would be fine but for the window of 128 MiB that its frame asks for."""
    wide = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    # The first block is flushed by itself: a frame whose length is known gets a small window.
    return packer.compress(b"\x98\x06\x01") + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) + packer.flush()


def test_spans_are_stored_field_by_field(collector):
    """A span's row is the span."""
    request = spans(1)
    assert collector.send_gzip("traces", request).status_code == 200
    span = request.resource_spans[0].scope_spans[0].spans[0]
    row = collector.rows(
        "select trace_id, span_id, parent_span_id, turn_id, name, kind, status, start_ns, duration_ns, duration_ms, service_name, attributes from spans"
    )
    attributes = '{"lastword.turn.id":"trn_x"}'
    assert row == [
        [
            span.trace_id.hex(),
            span.span_id.hex(),
            None,
            "trn_x",
            "span 0",
            "SERVER",
            "UNSET",
            span.start_time_unix_nano,
            1_500_000,
            1,
            "test",
            attributes,
        ]
    ]


def test_what_is_sent_again_is_stored_once(tmp_path):
    """In one request, in the next, and after a restart: one row for a span and for a turn."""
    trace, logs = spans(50), log_request(accepted("t1"), ended("t1"), ended("t1"))
    for _ in range(2):
        client, parts = start(tmp_path)
        with client:
            collector = Collector(client, parts)
            for _ in range(3):
                assert collector.send("traces", trace).status_code == 200
                assert collector.send("logs", logs).status_code == 200
            assert collector.rows("select count(*), count(distinct span_id) from spans") == [[50, 50]]
            assert collector.rows("select turn_id, terminal, completion_status, total_ms from turns") == [
                ["t1", "done", "success", 60]
            ]


def test_bad_span_is_told_and_its_neighbours_are_stored(collector):
    """A malformed span is named in partial_success; the others are there."""
    request = spans(4)
    bad = request.resource_spans[0].scope_spans[0].spans
    bad[1].trace_id = b"short"
    bad[2].end_time_unix_nano = 1
    answer = ExportTraceServiceResponse.FromString(collector.send("traces", request).content)
    assert answer.partial_success.rejected_spans == 2
    assert "trace id of 5 bytes" in answer.partial_success.error_message
    good = span_ids(request)
    assert sorted(row[0] for row in collector.rows("select span_id from spans")) == sorted([good[0], good[3]])


def test_bad_record_is_told_and_foreign_ones_are_counted(collector):
    """A record that cannot be read is rejected; log records of others are accepted and not stored."""
    bad = [("turn.done", "{"), ("turn.done", "{}"), ("turn.accepted", '{"turnId": 1}'), ("other.event", "hello")]
    answer = ExportLogsServiceResponse.FromString(collector.send("logs", log_request(*bad, ended("t1"))).content)
    assert answer.partial_success.rejected_log_records == 3
    assert collector.rows("select turn_id from turns") == [["t1"]]
    assert "lastword_log_records_foreign_total 1.0" in collector.http.get("/metrics").text


def test_number_out_of_range_harms_nobody(collector):
    """A record with a number that no column holds is rejected alone."""
    name, body = ended("t2")
    huge = json.dumps(json.loads(_text(body)) | {"answerChars": 2**70})
    answer = ExportLogsServiceResponse.FromString(collector.send("logs", log_request((name, huge), ended("t1"))).content)
    assert answer.partial_success.rejected_log_records == 1
    assert collector.rows("select turn_id from turns") == [["t1"]]


@pytest.mark.parametrize("depth", [1100, 100_000])
def test_record_that_is_nested_very_deeply_harms_nobody(collector, depth):
    """It is rejected alone, like any other that cannot be read."""
    name, body = ended("t2")
    deep = _text(body)[:-1] + ',"novel":' + "[" * depth + "]" * depth + "}"
    answer = ExportLogsServiceResponse.FromString(collector.send("logs", log_request((name, deep), ended("t1"))).content)
    assert answer.partial_success.rejected_log_records == 1
    assert collector.rows("select turn_id from turns") == [["t1"]]


def _text(body):
    from lastword.wire import encode_json

    return encode_json(body).decode()


def test_record_of_a_newer_service_is_kept(collector):
    """Unknown fields and words of a later version do not cost the row."""
    name, body = ended("t1")
    newer = json.loads(_text(body)) | {"novel": 1}
    newer["done"] |= {"completionStatus": "transcended", "novel": {"x": 1}}
    collector.send("logs", log_request((name, json.dumps(newer))))
    assert collector.rows("select completion_status, record->'novel'->>'x' from turns") == [["transcended", "1"]]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff garbage", {}, 400),
        (b"<x/>", {"content-type": "text/xml"}, 415),
        (b"{", {"content-type": "application/json"}, 400),
        (b"[]", {"content-type": "application/json"}, 400),
        (b"\xff", {"content-type": "application/json"}, 400),
        (b'{"resourceSpans": 7, "resourceLogs": 7}', {"content-type": "application/json"}, 400),
        (b'{"resourceSpans":' * 5_000, {"content-type": "application/json"}, 400),
        (b"[" * 100_000, {"content-type": "application/json"}, 400),
        (b"", {"content-type": "application/json"}, 200),
        (b'{"novel": {"x": [1, null]}}', {"content-type": "application/json; charset=utf-8"}, 200),
        (b"", {"content-encoding": "br"}, 415),
        (b"not zstd", {"content-encoding": "zstd"}, 400),
        (zstandard.compress(random.Random(1).randbytes(9000))[:-6], {"content-encoding": "zstd"}, 400),
        (zstandard.compress(b""), {"content-encoding": "zstd"}, 200),
        (wide_zstd(), {"content-encoding": "zstd"}, 400),
        (b"not gzip", {"content-encoding": "gzip"}, 400),
        (gzip.compress(b"x" * 1000, mtime=0)[:-6], {"content-encoding": "gzip"}, 400),
        (b"", {}, 200),
        (gzip.compress(b"", mtime=0), {"content-encoding": "gzip"}, 200),
    ],
)
@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_bad_body_has_a_clear_answer(collector, signal, body, headers, status):
    """Garbage, wrong types, broken gzip: a status, and a google.rpc.Status that says why."""
    response = collector.send(signal, body, **headers)
    assert response.status_code == status
    asked = headers.get("content-type", PROTOBUF).partition(";")[0]
    spoken = asked if asked == JSON else PROTOBUF
    assert response.headers["content-type"].partition(";")[0] == spoken
    if status != 200:
        assert response.json()["message"] if spoken == JSON else Status.FromString(response.content).message


def as_otlp_json(request):
    """A request in OTLP's own mapping: ids in hexadecimal, 64-bit numbers as text."""
    document = MessageToDict(request)

    def hexadecimal(value):
        if isinstance(value, dict):
            ids = {"traceId", "spanId", "parentSpanId"}
            return {k: base64.b64decode(v).hex() if k in ids else hexadecimal(v) for k, v in value.items()}
        return [hexadecimal(one) for one in value] if isinstance(value, list) else value

    return hexadecimal(document)


def rich_request():
    """Spans with everything that a row holds."""
    request = spans(3)
    span = request.resource_spans[0].scope_spans[0].spans[2]
    span.parent_span_id = request.resource_spans[0].scope_spans[0].spans[0].span_id
    span.attributes.add(key="traceId").value.string_value = "not an id"
    span.attributes.add(key="big").value.int_value = 2**60
    span.attributes.add(key="raw").value.bytes_value = b"\x00\xff"
    span.attributes.add(key="list").value.array_value.values.add().double_value = 0.5
    span.attributes.add(key="map").value.kvlist_value.values.add(key="k").value.bool_value = True
    event = span.events.add(name="visible", time_unix_nano=span.start_time_unix_nano + 1)
    event.attributes.add(key="n").value.int_value = 1
    span.links.add(trace_id=b"l" * 16, span_id=b"s" * 8)
    span.status.code, span.status.message = 2, "é世"
    return request


@pytest.mark.parametrize("numbers", [True, False], ids=["numbers as numbers", "numbers as text"])
def test_json_makes_the_same_rows_as_protobuf(tmp_path, numbers):
    """Field by field, also where a sender writes 64-bit numbers as numbers and enums by name."""
    request = rich_request()
    document = as_otlp_json(request)
    if numbers:
        for span in document["resourceSpans"][0]["scopeSpans"][0]["spans"]:
            span["startTimeUnixNano"], span["endTimeUnixNano"] = int(span["startTimeUnixNano"]), int(span["endTimeUnixNano"])
            span["kind"] = 2
    tables = []
    for name, body, headers in (("a", request, {}), ("b", json.dumps(document).encode(), {"content-type": JSON})):
        client, parts = start(tmp_path / name, commit_wait_ms=1)
        with client:
            collector = Collector(client, parts)
            answer = collector.send("traces", body, **headers)
            assert answer.status_code == 200
            tables.append(collector.rows("select * from spans order by span_id"))
    assert tables[0] == tables[1]
    assert len(tables[0]) == 3


def test_records_in_json_are_turns(collector):
    """A turn record in OTLP's JSON, compressed with zstd."""
    document = as_otlp_json(log_request(accepted("t1"), ended("t1")))
    body = zstandard.compress(json.dumps(document).encode())
    assert collector.send("logs", body, **{"content-type": JSON, "content-encoding": "zstd"}).json() == {}
    assert collector.rows("select turn_id, terminal from turns") == [["t1", "done"]]


@pytest.mark.parametrize("bad", ["", "xyz", "ab", "0" * 32])
def test_bad_id_in_json_costs_its_own_span_only(collector, bad):
    """It is told in the answer, in JSON, and its neighbours are stored."""
    document = as_otlp_json(spans(3))
    document["resourceSpans"][0]["scopeSpans"][0]["spans"][1]["traceId"] = bad
    answer = collector.send("traces", json.dumps(document).encode(), **{"content-type": JSON}).json()
    assert answer["partialSuccess"]["rejectedSpans"] == "1"
    assert "trace id" in answer["partialSuccess"]["errorMessage"]
    assert collector.rows("select count(*) from spans") == [[2]]


@pytest.mark.parametrize("size", [50_000_000, 400_000_000])
def test_zstd_bomb_is_refused_before_it_explodes(tmp_path, size):
    """As a bomb of gzip is."""
    client, parts = start(tmp_path, max_body_bytes=100_000)
    with client:
        collector = Collector(client, parts)
        bomb = zstandard.ZstdCompressor(level=3).compress(bytes(size))
        assert len(bomb) < 100_000
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert collector.send("traces", bomb, **{"content-encoding": "zstd"}).status_code == 413
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB: far below what it inflates to


def test_bomb_is_refused_before_it_explodes(tmp_path):
    """A body that inflates beyond the limit is 413, and is not held in memory."""
    client, parts = start(tmp_path, max_body_bytes=100_000)
    with client:
        collector = Collector(client, parts)
        bomb = gzip.compress(b"\0" * 50_000_000)
        assert len(bomb) < 100_000
        assert collector.send("traces", bomb, **{"content-encoding": "gzip"}).status_code == 413
        assert collector.send("traces", b"x" * 100_001).status_code == 413


def test_overload_is_503_with_retry_after(tmp_path):
    """A writer that is behind refuses, and says when to try again."""
    client, parts = start(tmp_path, queue_rows=10, commit_wait_ms=300, commit_rows=1_000_000)
    with client:
        collector = Collector(client, parts)
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: collector.send("traces", spans(8)), range(6)))
        refused = [answer for answer in answers if answer.status_code == 503]
        assert refused
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        accepted_ones = len(answers) - len(refused)
        assert collector.rows("select count(*) from spans") == [[8 * accepted_ones]]


def test_failed_commit_is_no_200(collector, monkeypatch):
    """Where the store cannot commit, senders are told to try again, and nothing of it is there."""
    monkeypatch.setattr(collector.parts.store, "append", lambda _batches: (_ for _ in ()).throw(StoreError("disk full")))
    response = collector.send("traces", spans(3))
    assert response.status_code == 503
    assert "disk full" in Status.FromString(response.content).message
    monkeypatch.undo()
    assert collector.rows("select count(*) from spans") == [[0]]
    assert collector.send("traces", spans(3)).status_code == 200


def test_metrics_are_counted_and_not_stored(collector):
    """The third signal is accepted."""
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.add(name="x")
    assert collector.send("metrics", request).status_code == 200
    assert "lastword_metrics_received_total 1.0" in collector.http.get("/metrics").text


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300), signal=st.sampled_from(["traces", "logs", "metrics"]))
def test_random_bytes_are_200_or_400(collector, body, signal):
    """No body breaks the collector."""
    assert collector.send(signal, body).status_code in (200, 400)


def test_turn_without_terminal_is_open_and_then_abandoned(tmp_path):
    """Accepted and silent: open until its deadline and the grace, abandoned after it; a late terminal corrects that."""
    from datetime import UTC, datetime

    client, parts = start(tmp_path, abandoned_grace_ms=0)
    with client:
        collector = Collector(client, parts)
        now = datetime.now(UTC)
        collector.send("logs", log_request(accepted("old"), accepted("young", started_at=now, deadline_ms=60_000)))
        assert collector.rows("select turn_id from open_turns") == [["young"]]
        assert collector.rows("select turn_id, terminal, broken, sources from turns") == [["old", "abandoned", True, []]]
        assert collector.rows("select turn_id from lost_turns") == [["old"]]
        collector.send("logs", log_request(ended("old")))
        assert collector.rows("select turn_id, terminal, broken from turns") == [["old", "done", False]]


def test_error_and_partial_turns_are_broken_and_leavers_are_not(collector):
    """The partial rate counts what broke on our side of the wire; people who leave have a column of their own."""
    records = [
        ended("ok"),
        ended("error", failed=True),
        ended("cut", completion_status=CompletionStatus.INTERRUPTED, partial=True, reason=Reason.PROVIDER_ERROR),
        ended("left", completion_status=CompletionStatus.CANCELLED, partial=True, reason=Reason.CLIENT_DISCONNECTED),
    ]
    collector.send("logs", log_request(*records))
    rows = collector.rows("select turn_id, broken, client_left from turns order by turn_id")
    assert rows == [["cut", True, False], ["error", True, False], ["left", False, True], ["ok", False, False]]
    assert collector.rows("select sum(turns), sum(broken), sum(client_left) from partial_rate_per_minute") == [[4, 2, 1]]


def test_content_stands_apart(collector):
    """Captured text has a table of its own."""
    collector.send("logs", log_request(ended("t1", content=TurnContent(prompt="p", answer="a"))))
    assert collector.rows("select turn_id, prompt, answer from turn_content") == [["t1", "p", "a"]]


def test_second_collector_on_one_folder_is_refused(tmp_path):
    """One writer: a second process has to say so, not to wait or to write."""
    import subprocess
    import sys

    client, _ = start(tmp_path)
    with client:
        code = f"from collector.app import Parts; from collector.settings import CollectorSettings; Parts(CollectorSettings(data_dir={str(tmp_path)!r}))"
        second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "is in use by another collector" in second.stderr


def test_store_of_a_newer_schema_is_refused(tmp_path):
    """An unknown version is not guessed at."""
    folder = tmp_path / "collector"
    Store(folder, memory_limit_mib=256, threads=1, abandoned_grace_ms=0).close()
    with duckdb.connect(str(folder / "hot.duckdb")) as connection:
        connection.execute("update store.meta set value = '99' where key = 'schema_version'")
    with pytest.raises(StoreError, match="schema version 99"):
        Store(folder, memory_limit_mib=256, threads=1, abandoned_grace_ms=0)


def test_real_exporter_delivers(tmp_path):
    """The official exporter's own spans arrive, with events, status and attributes of every type."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    from tests.support.pages import Program
    from tests.support.product import free_port

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = Program("collector", f"{url}/health/ready", LASTWORD_COLLECTOR_PORT=str(port), LASTWORD_DATA_DIR=str(tmp_path))
    try:
        provider = TracerProvider(resource=Resource.create({"service.name": "exporter"}), shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
        span = provider.get_tracer("scope").start_span("hello")
        span.set_attributes({"s": "x", "i": 2**53 + 1, "f": 1.5, "b": True, "l": ["a", "b"]})
        span.add_event("happened", {"k": 1}, timestamp=7)
        span.end()
        provider.shutdown()
        import httpx2

        body = {"sql": "select name, service_name, scope_name, attributes, events from spans"}
        row = httpx2.post(f"{url}/v1/sql", json=body, trust_env=False).json()["rows"][0]
        assert row[:3] == ["hello", "exporter", "scope"]
        assert json.loads(row[3]) == {"s": "x", "i": 2**53 + 1, "f": 1.5, "b": True, "l": ["a", "b"]}
        assert json.loads(row[4]) == [{"name": "happened", "timeNs": 7, "attributes": {"k": 1}}]
    finally:
        program.stop()


def test_span_of_the_documentation_is_stored(collector):
    """The body of the page's curl command, as it stands there."""
    page = (ROOT / "docs" / "otlp.md").read_text(encoding="utf-8")
    body = re.search(r"-d '(\{.*?\})'\n", page, re.DOTALL)[1]
    assert collector.send("traces", body.encode(), **{"content-type": JSON}).status_code == 200
    assert collector.rows("select name, duration_ms from spans where name = 'by hand'") == [["by hand", 500]]
