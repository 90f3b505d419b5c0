"""OTLP/gRPC: the three services, and the standard health check, on a port of their own, over the same receiver as HTTP.

gRPC itself inflates gzip and deflate and refuses a message that is larger after it than the limit. A refusal that may be tried again is UNAVAILABLE with a
`RetryInfo`; OTLP lets senders try RESOURCE_EXHAUSTED again only where it bears one too, and ours, for what is too large, never does.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

from collector.receive.encodings import PROTOBUF
from collector.receive.receiver import RETRY_S, Receiver, Refusal, Refused

logger = logging.getLogger(__name__)

Context: TypeAlias = aio.ServicerContext[bytes, bytes]

SERVICES = {
    "opentelemetry.proto.collector.trace.v1.TraceService": "traces",
    "opentelemetry.proto.collector.logs.v1.LogsService": "logs",
    "opentelemetry.proto.collector.metrics.v1.MetricsService": "metrics",
}
HEALTH_SERVICE = "grpc.health.v1.Health"
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"  # HealthCheckResponse: its one field, `status`
_DETAILS = "grpc-status-details-bin"
_CODES = {
    Refusal.BAD: grpc.StatusCode.INVALID_ARGUMENT,
    Refusal.UNKNOWN_SENDER: grpc.StatusCode.UNAUTHENTICATED,
    Refusal.TOO_LARGE: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Refusal.UNSUPPORTED: grpc.StatusCode.UNIMPLEMENTED,
    Refusal.BUSY: grpc.StatusCode.UNAVAILABLE,
}


class PortTaken(Exception):
    """The port cannot be listened on."""


class GrpcServer:
    """The server of one collector. Lives in the event loop that `start` is called in."""

    def __init__(self, receiver: Receiver, *, host: str, port: int, max_streams: int) -> None:
        self._receiver = receiver
        self._server = aio.server(
            options=[
                ("grpc.max_receive_message_length", receiver.max_body_bytes),
                ("grpc.max_concurrent_streams", max_streams),
                ("grpc.so_reuseport", 0),  # two collectors on one port would share its senders by chance
            ]
        )
        self._server.add_generic_rpc_handlers(tuple(self._service(name, signal) for name, signal in SERVICES.items()))
        self._server.add_generic_rpc_handlers((_handler(HEALTH_SERVICE, "Check", self._health),))
        shown = f"[{host}]" if ":" in host else host
        try:
            self.port: int = self._server.add_insecure_port(f"{shown}:{port}")
        except RuntimeError as error:
            raise PortTaken(f"{shown}:{port} cannot be listened on: set LASTWORD_COLLECTOR_GRPC_PORT") from error

    async def start(self) -> None:
        """Begins to listen."""
        await self._server.start()

    async def stop(self, grace_s: float) -> None:
        """Ends, after the requests in work have been answered, within a bound."""
        await self._server.stop(grace_s)

    def _service(self, name: str, signal: str) -> grpc.GenericRpcHandler[bytes, bytes]:
        async def export(body: bytes, context: Context) -> bytes:
            return await self._export(signal, body, context)

        return _handler(name, "Export", export)

    async def _export(self, signal: str, body: bytes, context: Context) -> bytes:
        metadata = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        try:
            self._receiver.check_token(metadata.get("authorization", ""))
            with self._receiver.place():
                answer = await self._receiver.take(signal, PROTOBUF, body)
        except Refused as refused:
            code = _CODES[refused.refusal]
            self._receiver.answered(signal, code.name)
            await context.abort(code, str(refused), ((_DETAILS, _details(refused, code)),))
            raise  # unreachable: abort raises
        self._receiver.answered(signal, grpc.StatusCode.OK.name)
        return bytes(answer.SerializeToString())

    async def _health(self, _body: bytes, _context: Context) -> bytes:
        return _NOT_SERVING if self._receiver.draining else _SERVING


def _details(refused: Refused, code: grpc.StatusCode) -> bytes:
    """The `google.rpc.Status` of a refusal, with when to try again where that may help."""
    number: Any = code.value[0]
    status = Status(code=number, message=str(refused))
    if refused.refusal is Refusal.BUSY:
        detail = AnyMessage()
        detail.Pack(RetryInfo(retry_delay=Duration(seconds=RETRY_S)))
        status.details.append(detail)
    return bytes(status.SerializeToString())


def _handler(
    service: str, method: str, behaviour: Callable[[bytes, Context], Awaitable[bytes]]
) -> grpc.GenericRpcHandler[bytes, bytes]:
    """A handler of whole messages as bytes: they are decoded where HTTP's bodies are."""
    return grpc.method_handlers_generic_handler(service, {method: grpc.unary_unary_rpc_method_handler(behaviour)})
