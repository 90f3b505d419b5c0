"""A sink for telemetry: takes OTLP over HTTP as protobuf, and keeps it for the cases to look at.

Owns what was received. Answers 200 to everything that it can read and 400 to the rest. Bounded: one request holds at most `MAX_PAYLOAD` bytes, and beyond
`MAX_BYTES` the oldest requests are forgotten, with their spans and records.
"""

from __future__ import annotations

import threading
import zlib
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
MAX_PAYLOAD = 32 * 1024 * 1024
_ITEM_BYTES = 1024  # what a span or a record costs beside its bytes, roughly


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
            payload = bytearray()
            while (size := int(self.rfile.readline(100).split(b";")[0], 16)) > 0:
                payload += self.rfile.read(_bounded(len(payload) + size) - len(payload))
                self.rfile.readline(100)
            self.rfile.readline(100)
            whole = bytes(payload)
        else:
            whole = self.rfile.read(_bounded(int(self.headers.get("content-length", "0"))))
        return _unpacked(whole) if self.headers.get("content-encoding") == "gzip" else whole


def _bounded(size: int) -> int:
    if not 0 <= size <= MAX_PAYLOAD:
        raise ValueError(f"a request of {size} bytes")
    return size


def _unpacked(payload: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        whole = unpacker.decompress(payload, MAX_PAYLOAD)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    _bounded(len(whole) + len(unpacker.unconsumed_tail))
    return whole


class _Export(Struct, frozen=True):
    """One request: its bytes, and what stood in them."""

    payload: bytes
    spans: list[SinkSpan]
    records: list[SinkRecord]

    @property
    def cost(self) -> int:
        """Bytes of memory, roughly."""
        return len(self.payload) + _ITEM_BYTES * (1 + len(self.spans) + len(self.records))


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

    def __init__(self, port: int = 0, *, max_bytes: int = MAX_BYTES) -> None:
        self._lock = threading.Lock()
        self._exports: deque[_Export] = deque()
        self._max_bytes = max_bytes
        self._bytes = 0
        self._heard = False
        self._server = _Server(self, port)
        self.port = int(self._server.server_address[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="otlp-sink", daemon=True)

    def take(self, path: str, payload: bytes) -> None:
        """Takes one request's body.

        Raises:
            DecodeError: it is not what the path says.
        """
        spans = _spans(payload) if path.endswith("/v1/traces") else []
        records = _records(payload) if path.endswith("/v1/logs") else []
        export = _Export(payload, spans, records)
        with self._lock:
            self._heard = True
            self._exports.append(export)
            self._bytes += export.cost
            while self._bytes > self._max_bytes:
                self._bytes -= self._exports.popleft().cost

    @property
    def heard(self) -> bool:
        """Whether anything was ever received."""
        return self._heard

    def spans_of(self, trace_id: str) -> list[SinkSpan]:
        """The spans of a trace."""
        with self._lock:
            return [span for export in self._exports for span in export.spans if span.trace_id == trace_id]

    def records_of(self, turn_id: str, event_name: str) -> list[SinkRecord]:
        """The records of a turn by their event name; one that was sent twice, byte by byte the same, counts once."""
        with self._lock:
            every = [record for export in self._exports for record in export.records]
        found = {record.body: record for record in every if record.turn_id == turn_id and record.event_name == event_name}
        return list(found.values())

    def holds(self, text: str) -> bool:
        """Whether a text stands anywhere in what was received."""
        needle = text.encode()
        with self._lock:
            return any(needle in export.payload for export in self._exports)

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
