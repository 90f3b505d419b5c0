"""A sink for telemetry: takes OTLP over HTTP as protobuf, and keeps it for the cases to look at.

Owns what was received. Answers 200 to everything that it can read and 400 to the rest. Bounded: beyond `MAX_BYTES` of payload it forgets the oldest.
"""

from __future__ import annotations

import gzip
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from google.protobuf.message import DecodeError
from msgspec import Struct
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from lastword import names

MAX_BYTES = 256 * 1024 * 1024


class SinkSpan(Struct, frozen=True, kw_only=True):
    """One span. Times in nanoseconds since 1970, ids as hexadecimal digits; `parent_id` is empty for a root."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]

    @property
    def ms(self) -> float:
        """Duration in milliseconds."""
        return (self.end_ns - self.start_ns) / 1e6


class SinkRecord(Struct, frozen=True, kw_only=True):
    """One log record."""

    event_name: str
    trace_id: str
    turn_id: str
    body: str


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: object) -> None:
        """Silence."""

    def do_POST(self) -> None:
        """Takes one export."""
        try:
            payload = self._payload()
            self.server.owner.take(self.path, payload)
            status = 200
        except (DecodeError, ValueError, OSError):
            status = 400
        self.send_response(status)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def _payload(self) -> bytes:
        if "chunked" in (self.headers.get("transfer-encoding") or ""):
            parts = []
            while (size := int(self.rfile.readline().split(b";")[0], 16)) > 0:
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            payload = b"".join(parts)
        else:
            payload = self.rfile.read(int(self.headers.get("content-length", "0")))
        return gzip.decompress(payload) if self.headers.get("content-encoding") == "gzip" else payload


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, owner: Sink, port: int) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A sender that went away is no error here."""


class Sink:
    """The server, as a context manager. Thread-safe."""

    def __init__(self, port: int = 0) -> None:
        self._lock = threading.Lock()
        self._spans: deque[SinkSpan] = deque()
        self._records: deque[SinkRecord] = deque()
        self._payloads: deque[bytes] = deque()
        self._bytes = 0
        self._server = _Server(self, port)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="otlp-sink", daemon=True)

    def take(self, path: str, payload: bytes) -> None:
        """Takes one request's body.

        Raises:
            DecodeError: it is not what the path says.
        """
        spans = list(_spans(payload)) if path.endswith("/v1/traces") else []
        records = list(_records(payload)) if path.endswith("/v1/logs") else []
        with self._lock:
            self._spans.extend(spans)
            self._records.extend(records)
            self._payloads.append(payload)
            self._bytes += len(payload)
            while self._bytes > MAX_BYTES:
                self._bytes -= len(self._payloads.popleft())

    @property
    def heard(self) -> bool:
        """Whether anything was ever received."""
        return bool(self._payloads)

    def spans_of(self, trace_id: str) -> list[SinkSpan]:
        """The spans of a trace."""
        with self._lock:
            return [span for span in self._spans if span.trace_id == trace_id]

    def records_of(self, turn_id: str, event_name: str) -> list[SinkRecord]:
        """The records of a turn by their event name; one that was sent twice, byte by byte the same, counts once."""
        with self._lock:
            found = [record for record in self._records if record.turn_id == turn_id and record.event_name == event_name]
        return list({record.body: record for record in found}.values())

    def holds(self, text: str) -> bool:
        """Whether a text stands anywhere in what was received."""
        needle = text.encode()
        with self._lock:
            return any(needle in payload for payload in self._payloads)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return None if kind is None or kind == "kvlist_value" else getattr(value, kind)


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _spans(payload: bytes) -> list[SinkSpan]:
    request = ExportTraceServiceRequest.FromString(payload)
    return [
        SinkSpan(
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            name=span.name,
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            attributes=_attributes(span.attributes),
        )
        for resource in request.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _records(payload: bytes) -> list[SinkRecord]:
    request = ExportLogsServiceRequest.FromString(payload)
    found = []
    for resource in request.resource_logs:
        for scope in resource.scope_logs:
            for record in scope.log_records:
                attributes = _attributes(record.attributes)
                body = record.body.string_value or str(record.body)
                turn_id = str(attributes.get(names.TURN_ID) or "")
                found.append(
                    SinkRecord(event_name=record.event_name, trace_id=record.trace_id.hex(), turn_id=turn_id, body=body)
                )
    return found
