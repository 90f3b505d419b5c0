"""OTLP/gRPC: the same rows, limits and promises as HTTP, in gRPC's own words."""

import concurrent.futures

import grpc
import httpx2
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2_grpc import MetricsServiceStub
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from collector.store.hot import StoreError
from tests.integration.collector.conftest import Collector, start
from tests.integration.collector.process import Program
from tests.integration.collector.test_receive import rich_request
from tests.support.otlp import accepted, ended, log_request, span_ids, spans
from tests.support.product import captured, free_port

_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Grpc(Collector):
    """Talks to the same collector over gRPC, too."""

    def __init__(self, client, parts, port):
        super().__init__(client, parts)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_send_message_length", -1)])
        self.traces, self.logs, self.metrics = (
            stub(self.channel) for stub in (TraceServiceStub, LogsServiceStub, MetricsServiceStub)
        )

    def raw(self, body, path=_EXPORT, **options):
        return self.channel.unary_unary(path)(body, timeout=20, **options)


@pytest.fixture
def serve(tmp_path):
    """Starts a collector with both ports."""
    opened = []

    def open_one(**settings):
        port = free_port()
        client, parts = start(tmp_path, **{"commit_wait_ms": 1, "grpc_port": port, **settings})
        client.__enter__()
        opened.append((client, Grpc(client, parts, port)))
        return opened[-1][1]

    yield open_one
    for client, collector in opened:
        collector.channel.close()
        client.__exit__(None, None, None)


def refused(call):
    """The code of a call that is refused, and its `google.rpc.Status`."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    details = dict(caught.value.trailing_metadata() or ()).get("grpc-status-details-bin")
    return caught.value.code(), Status.FromString(details) if details else None


def retry_delay_s(status):
    """When the sender may try again; none where it may not."""
    for detail in status.details:
        info = RetryInfo()
        if detail.Unpack(info):
            return info.retry_delay.seconds
    return None


@pytest.mark.parametrize("compression", list(grpc.Compression), ids=lambda one: one.name)
def test_rows_are_those_of_http(serve, compression):
    """Span for span and column for column, however the message was compressed; sent over both, it is stored once."""
    collector = serve()
    request = rich_request()
    assert collector.traces.Export(request, timeout=20, compression=compression).partial_success.rejected_spans == 0
    over_grpc = collector.rows("select * from spans order by span_id")
    assert len(over_grpc) == 3
    assert collector.send("traces", request).status_code == 200
    assert collector.rows("select * from spans order by span_id") == over_grpc
    text = collector.http.get("/metrics").text
    assert 'lastword_otlp_requests_total{signal="traces",status="OK"} 1.0' in text


def test_records_become_turns_and_metrics_are_counted(serve):
    """The other two services."""
    collector = serve()
    collector.logs.Export(log_request(accepted("t1"), ended("t1")), timeout=20)
    assert collector.rows("select turn_id, terminal from turns") == [["t1", "done"]]
    request = ExportMetricsServiceRequest()
    request.resource_metrics.add().scope_metrics.add().metrics.add(name="x")
    collector.metrics.Export(request, timeout=20)
    assert "lastword_metrics_received_total 1.0" in collector.http.get("/metrics").text


def test_bad_span_is_told_and_its_neighbours_are_stored(serve):
    """Partial success, as over HTTP."""
    collector = serve()
    request = spans(3)
    request.resource_spans[0].scope_spans[0].spans[1].trace_id = b"short"
    answer = collector.traces.Export(request, timeout=20)
    assert answer.partial_success.rejected_spans == 1
    assert "trace id of 5 bytes" in answer.partial_success.error_message
    good = span_ids(request)
    assert sorted(row[0] for row in collector.rows("select span_id from spans")) == sorted([good[0], good[2]])


def test_garbage_is_an_invalid_argument(serve):
    """Bytes that are no message: never to be sent again. An empty message is a request without spans."""
    collector = serve()
    code, status = refused(lambda: collector.raw(b"\xff\xff garbage"))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert status.code == 3
    assert "decoded" in status.message
    assert retry_delay_s(status) is None
    assert collector.raw(b"") == b""


@pytest.mark.parametrize("compression", list(grpc.Compression), ids=lambda one: one.name)
def test_message_beyond_the_limit_is_refused(serve, compression):
    """After inflation, and for good: RESOURCE_EXHAUSTED without a time to try again. At the limit it is taken."""
    collector = serve(max_body_bytes=100_000)
    code, status = refused(lambda: collector.raw(b"\0" * 100_001, compression=compression))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status is None
    request = ExportTraceServiceRequest()
    request.resource_spans.add().schema_url = "u" * 99_990
    assert request.ByteSize() <= 100_000
    assert collector.raw(request.SerializeToString(), compression=compression) == b""


def test_overload_says_when_to_try_again(serve):
    """A writer that is behind: UNAVAILABLE with a RetryInfo of a second; what was answered is stored."""
    collector = serve(queue_rows=10, commit_wait_ms=300, commit_rows=1_000_000)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(collector.traces.Export, spans(8), timeout=20) for _ in range(6)]
    failed = [call.exception() for call in calls if call.exception() is not None]
    assert failed
    for error in failed:
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
        assert retry_delay_s(status) == 1
    assert collector.rows("select count(*) from spans") == [[8 * (6 - len(failed))]]


def test_failed_commit_is_unavailable(serve, monkeypatch):
    """OK means durable."""
    collector = serve()
    monkeypatch.setattr(collector.parts.store, "append", lambda _batches: (_ for _ in ()).throw(StoreError("disk full")))
    code, status = refused(lambda: collector.traces.Export(spans(3), timeout=20))
    assert code is grpc.StatusCode.UNAVAILABLE
    assert "disk full" in status.message
    assert retry_delay_s(status) == 1
    monkeypatch.undo()
    assert collector.rows("select count(*) from spans") == [[0]]


def test_health_is_told(serve):
    """The standard check, and NOT_SERVING while the collector ends."""
    collector = serve()
    check = "/grpc.health.v1.Health/Check"
    assert collector.raw(b"", check) == b"\x08\x01"
    collector.parts.receiver.draining = True
    assert collector.raw(b"", check) == b"\x08\x02"
    assert refused(lambda: collector.traces.Export(spans(1), timeout=20))[0] is grpc.StatusCode.UNAVAILABLE


def test_unknown_method_is_unimplemented(serve):
    """And no other answer."""
    assert (
        refused(lambda: serve().raw(b"", "/opentelemetry.proto.collector.profiles.v1.X/Export"))[0]
        is grpc.StatusCode.UNIMPLEMENTED
    )


@pytest.mark.parametrize(("shown", "welcome"), [(None, False), ("Bearer wrong", False), ("Bearer two", True)])
def test_tokens_are_asked_for_on_both_ports(serve, shown, welcome):
    """401 with a Status over HTTP, UNAUTHENTICATED over gRPC, before a body is read; nothing of it is stored."""
    collector = serve(tokens="one,two")
    metadata = [("authorization", shown)] if shown else []
    headers = {"authorization": shown} if shown else {}
    paths = ("/v1/traces", "/v1/logs", "/v1/metrics", "/api/public/otel/v1/traces")
    answers = [
        collector.http.post(path, content=b"", headers={"content-type": "application/x-protobuf", **headers}) for path in paths
    ]
    if welcome:
        assert [answer.status_code for answer in answers] == [200] * 4
        assert collector.traces.Export(spans(1), metadata=metadata, timeout=20).partial_success.rejected_spans == 0
        return
    for answer in answers:
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert Status.FromString(answer.content).code == 16
    code, status = refused(lambda: collector.traces.Export(spans(1), metadata=metadata, timeout=20))
    assert (code, status.code) == (grpc.StatusCode.UNAUTHENTICATED, 16)
    assert collector.rows("select count(*) from spans") == [[0]]


def test_pages_of_other_origins_are_not_let_in(serve):
    """CORS is off: a browser's preflight gets no leave."""
    answer = serve().http.options(
        "/v1/traces", headers={"origin": "https://elsewhere.example", "access-control-request-method": "POST"}
    )
    assert "access-control-allow-origin" not in answer.headers


def test_stop_answers_what_is_in_work(tmp_path):
    """SIGTERM: a request whose commit is awaited gets its OK, and its rows are there after the next start."""
    port = free_port()
    program = Program(tmp_path, LASTWORD_COLLECTOR_GRPC_PORT=str(port), LASTWORD_COLLECTOR_COMMIT_WAIT_MS="1500")
    program.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = TraceServiceStub(channel).Export.future(spans(5), timeout=30)
        while "lastword_writer_waiting_rows 5.0" not in httpx2.get(f"{program.url}/metrics", trust_env=False).text:
            assert not call.done()
        program.stop()
        assert call.result().partial_success.rejected_spans == 0
    program.start()
    assert program.rows("select count(*) from spans") == [[5]]
    program.stop()


def test_port_that_is_taken_is_named(tmp_path, monkeypatch):
    """The second program ends at once and says which setting to change."""
    import socket
    import sys

    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("LASTWORD_COLLECTOR_GRPC_PORT", str(taken.getsockname()[1]))
        monkeypatch.setenv("LASTWORD_DATA_DIR", str(tmp_path))
        ended_at_once = captured([sys.executable, "-m", "collector"], timeout_s=60)
    assert ended_at_once.returncode == 2
    assert "LASTWORD_COLLECTOR_GRPC_PORT" in ended_at_once.stderr


def test_listening_to_the_network_without_a_token_is_said(tmp_path):
    """A warning at the start, and none with a token."""
    said = {}
    for tokens in ("", "a-long-token"):
        environment = {"LASTWORD_COLLECTOR_HOST": "0.0.0.0", "LASTWORD_COLLECTOR_TOKENS": tokens}
        program = Program(tmp_path, **environment)
        program.log = tmp_path / "log"
        program.start()
        program.stop()
        said[tokens] = program.log.read_text()
    assert "LASTWORD_COLLECTOR_TOKENS" in said[""]
    assert "LASTWORD_COLLECTOR_TOKENS" not in said["a-long-token"]
