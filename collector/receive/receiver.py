"""Takes OTLP requests, whatever they came over: a bounded number of them, decoded in threads of their own, answered after the commit that holds their rows.

Knows neither HTTP nor gRPC: `collector.receive.http` and `collector.receive.grpc_server` put its answers and its refusals in their own words. Invariant: an answer
is durable. What cannot be stored of an otherwise good request is told in `partial_success`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum

from google.protobuf.message import Message
from msgspec import Struct
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from collector.metrics import Metrics
from collector.receive.attributes import AttributeLimits, Memo
from collector.receive.decoders import LARGE_BYTES, Decoders, Gone
from collector.receive.encodings import PROTOBUF, TooHeavy, Undecodable, parse, parse_spans
from collector.receive.records import record_rows
from collector.receive.spans import READ, span_rows
from collector.receive.tokens import Tokens
from collector.store.batches import Batch
from collector.store.hot import StoreError
from collector.writer import QueueFull, Rows, Writer

THREADS = 2
"""Threads that decode what is not worth the way to another process."""
MAX_REASONS = 3
"""Reasons for rejection that an answer names; it tells the number of all."""
RETRY_S = 1
"""When a sender may try again. Never more: exporters give up on a longer wait."""


class Refusal(Enum):
    """Why a request is not taken."""

    BAD = "bad"
    TOO_LARGE = "too large"
    UNSUPPORTED = "unsupported"
    UNKNOWN_SENDER = "unknown sender"
    BUSY = "busy"


class Refused(Exception):
    """A request is not taken. Only `Refusal.BUSY` may be tried again."""

    def __init__(self, refusal: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.refusal = refusal


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
        max_content_chars: int,
        max_body_bytes: int,
        max_requests: int,
        decoders: int,
        stored: Callable[[Batch], None],
        tokens: Tokens,
    ) -> None:
        self._writer = writer
        self._stored = stored
        self._metrics = metrics
        self._memo = Memo(limits, READ)
        self._max_content_chars = max_content_chars
        self.max_body_bytes = max_body_bytes
        self._tokens = tokens
        self._decoders = Decoders(decoders, limits)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="decode")
        self._asking = ThreadPoolExecutor(decoders + 1, thread_name_prefix="asking")  # one waits, and may be given one more
        self._places = threading.BoundedSemaphore(max_requests)
        self._decode: dict[str, Decode] = {"traces": self._traces, "logs": self._logs, "metrics": self._points}
        self.draining = False

    def check_token(self, authorization: str) -> None:
        """Checks what a sender shows of itself.

        Raises:
            Refused: tokens are asked for, and it bears none of them.
        """
        if not self._tokens.admit(authorization):
            raise Refused(Refusal.UNKNOWN_SENDER, "a bearer token is expected")

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """A request's place among those in work.

        Raises:
            Refused: there is none, or the collector ends.
        """
        if self.draining or not self._places.acquire(blocking=False):
            raise Refused(Refusal.BUSY, "too many requests are in work")
        try:
            yield
        finally:
            self._places.release()

    async def take(self, signal: str, encoding: str, body: bytes) -> Message:
        """Decodes and stores a body; the answer, once its rows are committed.

        Raises:
            Refused: it cannot be decoded, or not be stored now.
        """
        decode, threads = self._decode[signal], self._threads
        if signal == "traces" and encoding == PROTOBUF and self._decoders.count and len(body) >= LARGE_BYTES:
            decode, threads = self._spans_apart, self._asking  # who waits for another process keeps no small body waiting
        try:
            decoded = await asyncio.get_running_loop().run_in_executor(threads, decode, encoding, body)
        except TooHeavy as error:
            raise Refused(Refusal.TOO_LARGE, str(error)) from None
        except Undecodable as error:
            raise Refused(Refusal.BAD, f"the body cannot be decoded: {error}") from None
        except Gone as error:
            raise Refused(Refusal.BUSY, str(error)) from None
        if len(decoded.rows):
            await self._store(decoded.rows)
        return decoded.answer

    @property
    def decoders_ended(self) -> int:
        """Decoders that ended without being asked to, since the start."""
        return self._decoders.ended

    def answered(self, signal: str, status: int | str) -> None:
        """Counts an answer."""
        self._metrics.request(signal, status)

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
            raise Refused(Refusal.BUSY, "the writer is behind") from None
        if (error := await committed) is not None:
            raise Refused(Refusal.BUSY, f"the rows could not be stored: {error}")
        if len(rows.spans):
            self._stored(rows.spans)

    def _traces(self, encoding: str, body: bytes) -> _Decoded:
        """Spans, decoded here."""
        return self._answered_spans(*span_rows(parse_spans(encoding, body), self._memo))

    def _spans_apart(self, _encoding: str, body: bytes) -> _Decoded:
        """Spans, decoded in another process."""
        outcome, spans = self._decoders.decode(body)
        if outcome.too_heavy is not None:
            raise TooHeavy(outcome.too_heavy)
        if outcome.undecodable is not None:
            raise Undecodable(outcome.undecodable)
        return self._answered_spans(spans, outcome.rejected)

    def _answered_spans(self, rows: Batch, rejected: list[str]) -> _Decoded:
        answer = ExportTraceServiceResponse()
        if rejected:
            answer.partial_success.rejected_spans = len(rejected)
            answer.partial_success.error_message = _reasons(rejected)
            self._metrics.rejected("traces", len(rejected))
        return _Decoded(Rows(spans=rows), answer)

    def _logs(self, encoding: str, body: bytes) -> _Decoded:
        """Turn records."""
        rows, rejected, foreign = record_rows(parse(encoding, ExportLogsServiceRequest, body), self._max_content_chars)
        answer = ExportLogsServiceResponse()
        if rejected:
            answer.partial_success.rejected_log_records = len(rejected)
            answer.partial_success.error_message = _reasons(rejected)
            self._metrics.rejected("logs", len(rejected))
        self._metrics.foreign(foreign)
        return _Decoded(rows, answer)

    def _points(self, encoding: str, body: bytes) -> _Decoded:
        """Metrics: counted, not stored."""
        request = parse(encoding, ExportMetricsServiceRequest, body)
        self._metrics.points(
            sum(len(scope.metrics) for resource in request.resource_metrics for scope in resource.scope_metrics)
        )
        return _Decoded(Rows(), ExportMetricsServiceResponse())

    def close(self) -> None:
        """Ends the decoders."""
        for threads in (self._threads, self._asking):
            threads.shutdown(wait=True)
        self._decoders.close()


def _resolve(committed: asyncio.Future[StoreError | None], error: StoreError | None) -> None:
    if not committed.done():  # the sender may have gone in the meantime
        committed.set_result(error)


def _reasons(rejected: list[str]) -> str:
    more = f"; and {len(rejected) - MAX_REASONS} more" if len(rejected) > MAX_REASONS else ""
    return "; ".join(reason[:300] for reason in rejected[:MAX_REASONS]) + more
