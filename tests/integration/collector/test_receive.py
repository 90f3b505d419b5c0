"""Receiving: what arrives is stored once, what cannot be stored is told, and nothing harms its neighbours."""

import gzip
import json

import duckdb
import pytest
from google.rpc.status_pb2 import Status
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.store.store import Store, StoreError
from lastword.events import CompletionStatus, Reason, TurnContent
from tests.integration.collector.conftest import Collector, start
from tests.support.otlp import accepted, ended, log_request, span_ids, spans


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
        (b"{}", {"content-type": "application/json"}, 415),
        (b"", {"content-encoding": "br"}, 415),
        (b"not gzip", {"content-encoding": "gzip"}, 400),
        (gzip.compress(b"x" * 1000)[:-6], {"content-encoding": "gzip"}, 400),
        (b"", {}, 200),
        (gzip.compress(b""), {"content-encoding": "gzip"}, 200),
    ],
)
@pytest.mark.parametrize("signal", ["traces", "logs"])
def test_bad_body_has_a_clear_answer(collector, signal, body, headers, status):
    """Garbage, wrong types, broken gzip: a status, and a google.rpc.Status that says why."""
    response = collector.send(signal, body, **headers)
    assert response.status_code == status
    if status != 200:
        assert Status.FromString(response.content).message


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
    with duckdb.connect(str(folder / "live.duckdb")) as connection:
        connection.execute("update store.meta set value = '99' where key = 'schema_version'")
    with pytest.raises(StoreError, match="schema version 99"):
        Store(folder, memory_limit_mib=256, threads=1, abandoned_grace_ms=0)


def test_real_exporter_delivers(tmp_path):
    """The official exporter's own spans arrive, with events, status and attributes of every type."""
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    from tests.e2e.test_dashboard_pages import Program
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
