"""OTLP/HTTP: the three signals, with the answers that senders understand (OTLP 1.11).

200 only after the commit that holds the request's rows. Errors are a `google.rpc.Status` in the request's encoding; what cannot be stored of an otherwise good
request is told in `partial_success`. Bodies are decoded in threads of their own, a bounded number of requests at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from litestar import Request, Response, post
from litestar.datastructures import State
from msgspec import Struct
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from collector.metrics import Metrics
from collector.receive.attributes import AttributeLimits
from collector.receive.body import CONTENT_ENCODINGS, BodyTooLarge, BodyUnreadable, EncodingUnknown, read_body
from collector.receive.encodings import ENCODINGS, PROTOBUF, Undecodable, parse, render
from collector.receive.records import record_rows
from collector.receive.spans import span_rows
from collector.store.store import StoreError
from collector.writer import Batch, QueueFull, Rows, Writer

logger = logging.getLogger(__name__)

DECODERS = 2
MAX_REASONS = 3
"""Reasons for rejection that an answer names; it tells the number of all."""

_CODES = {400: 3, 413: 3, 415: 3, 503: 14}  # google.rpc.Code: INVALID_ARGUMENT, UNAVAILABLE


class _Refused(Exception):
    """The request is answered with an error status."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class _Decoded(Struct):
    """A request, decoded: rows to store, and the answer once they are."""

    rows: Rows
    answer: Message


Decode = Callable[[str, bytes], _Decoded]
"""From a content type and a body."""


class Receiver:
    """Takes OTLP requests. One per process."""

    def __init__(
        self,
        writer: Writer,
        metrics: Metrics,
        *,
        limits: AttributeLimits,
        max_body_bytes: int,
        max_requests: int,
        stored: Callable[[Batch], None],
    ) -> None:
        self._writer = writer
        self._stored = stored
        self._metrics = metrics
        self._limits = limits
        self._max_body_bytes = max_body_bytes
        self._decoders = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        self._places = threading.BoundedSemaphore(max_requests)
        self.draining = False

    async def receive(self, request: Request[Any, Any, Any], signal: str, decode: Decode) -> Response[bytes]:
        """The answer to one request, in the request's encoding; in protobuf where that is unknown."""
        encoding = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        answer: Message
        try:
            answer = await self._receive(request, encoding, decode)
            status, headers = 200, {}
        except _Refused as refused:
            status, answer = refused.status, Status(code=_CODES[refused.status], message=str(refused))
            headers = {"Retry-After": "1"} if refused.status == 503 else {}
        self._metrics.request(signal, status)
        spoken = encoding if encoding in ENCODINGS else PROTOBUF
        return Response(render(spoken, answer), status_code=status, media_type=spoken, headers=headers)

    async def _receive(self, request: Request[Any, Any, Any], encoding: str, decode: Decode) -> Message:
        if encoding not in ENCODINGS:
            raise _Refused(415, f"content type {encoding!r}: {' or '.join(ENCODINGS)} is expected")
        if self.draining or not self._places.acquire(blocking=False):
            raise _Refused(503, "too many requests are in work")
        try:
            try:
                body = await read_body(request.stream(), request.headers.get("content-encoding", ""), self._max_body_bytes)
                decoded = await asyncio.get_running_loop().run_in_executor(self._decoders, decode, encoding, body)
            except BodyTooLarge:
                raise _Refused(413, f"the body is larger than {self._max_body_bytes} bytes after inflation") from None
            except EncodingUnknown as error:
                raise _Refused(415, f"content encoding {error}: {' or '.join(CONTENT_ENCODINGS)} is expected") from None
            except BodyUnreadable as error:
                raise _Refused(400, f"the body cannot be inflated: {error}") from None
            except Undecodable as error:
                raise _Refused(400, f"the body cannot be decoded: {error}") from None
            if len(decoded.rows):
                await self._store(decoded.rows)
        finally:
            self._places.release()
        return decoded.answer

    async def _store(self, rows: Rows) -> None:
        """Waits for the commit."""
        loop = asyncio.get_running_loop()
        committed: asyncio.Future[StoreError | None] = loop.create_future()

        def done(error: StoreError | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the sender's connection with it
                loop.call_soon_threadsafe(_resolve, committed, error)

        try:
            self._writer.submit(rows, done)
        except QueueFull:
            raise _Refused(503, "the writer is behind") from None
        if (error := await committed) is not None:
            raise _Refused(503, f"the rows could not be stored: {error}")
        if len(rows.spans):
            self._stored(rows.spans)

    def decode_traces(self, encoding: str, body: bytes) -> _Decoded:
        """Spans."""
        rows, rejected = span_rows(parse(encoding, ExportTraceServiceRequest, body), self._limits)
        answer = ExportTraceServiceResponse()
        if rejected:
            answer.partial_success.rejected_spans = len(rejected)
            answer.partial_success.error_message = _reasons(rejected)
            self._metrics.rejected("traces", len(rejected))
        return _Decoded(Rows(spans=rows), answer)

    def decode_logs(self, encoding: str, body: bytes) -> _Decoded:
        """Turn records."""
        rows, rejected, foreign = record_rows(parse(encoding, ExportLogsServiceRequest, body))
        answer = ExportLogsServiceResponse()
        if rejected:
            answer.partial_success.rejected_log_records = len(rejected)
            answer.partial_success.error_message = _reasons(rejected)
            self._metrics.rejected("logs", len(rejected))
        self._metrics.foreign(foreign)
        return _Decoded(rows, answer)

    def decode_metrics(self, encoding: str, body: bytes) -> _Decoded:
        """Metrics: counted, not stored."""
        request = parse(encoding, ExportMetricsServiceRequest, body)
        self._metrics.points(
            sum(len(scope.metrics) for resource in request.resource_metrics for scope in resource.scope_metrics)
        )
        return _Decoded(Rows(), ExportMetricsServiceResponse())

    def close(self) -> None:
        """Ends the decoders."""
        self._decoders.shutdown(wait=True)


def _resolve(committed: asyncio.Future[StoreError | None], error: StoreError | None) -> None:
    if not committed.done():  # the sender may have gone in the meantime
        committed.set_result(error)


def _reasons(rejected: list[str]) -> str:
    more = f"; and {len(rejected) - MAX_REASONS} more" if len(rejected) > MAX_REASONS else ""
    return "; ".join(reason[:300] for reason in rejected[:MAX_REASONS]) + more


def receiver_of(state: State) -> Receiver:
    """The receiver behind the application."""
    receiver: Receiver = state.receiver
    return receiver


@post("/v1/traces", status_code=200, summary="OTLP traces", tags=["otlp"])
async def traces(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    """Stores spans; 200 means durable."""
    receiver = receiver_of(state)
    return await receiver.receive(request, "traces", receiver.decode_traces)


@post("/v1/logs", status_code=200, summary="OTLP logs: turn records", tags=["otlp"])
async def logs(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    """Stores turn records; 200 means durable. Other log records are counted, not stored."""
    receiver = receiver_of(state)
    return await receiver.receive(request, "logs", receiver.decode_logs)


@post("/v1/metrics", status_code=200, summary="OTLP metrics: counted, not stored", tags=["otlp"])
async def metrics(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    """Counts metrics; none is stored."""
    receiver = receiver_of(state)
    return await receiver.receive(request, "metrics", receiver.decode_metrics)
