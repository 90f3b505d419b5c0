"""OTLP/HTTP: the three signals, with the answers that senders understand (OTLP 1.11). Errors are a `google.rpc.Status` in the request's encoding."""

from __future__ import annotations

from typing import Any

from google.protobuf.message import Message
from google.rpc.status_pb2 import Status
from litestar import Request, Response, post
from litestar.datastructures import State

from collector.receive.body import CONTENT_ENCODINGS, BodyTooLarge, BodyUnreadable, EncodingUnknown, read_body
from collector.receive.encodings import ENCODINGS, PROTOBUF, render
from collector.receive.receiver import RETRY_S, Receiver, Refusal, Refused

LANGFUSE_PATH = "/api/public/otel/v1/traces"
"""Where Langfuse's senders send; the same as `/v1/traces`."""

_STATUSES = {
    Refusal.BAD: (400, 3),  # google.rpc.Code: INVALID_ARGUMENT
    Refusal.UNKNOWN_SENDER: (401, 16),  # UNAUTHENTICATED
    Refusal.TOO_LARGE: (413, 3),
    Refusal.UNSUPPORTED: (415, 3),
    Refusal.BUSY: (503, 14),  # UNAVAILABLE
}


async def _receive(request: Request[Any, Any, Any], state: State, signal: str) -> Response[bytes]:
    """The answer to one request, in the request's encoding; in protobuf where that is unknown."""
    receiver: Receiver = state.receiver
    encoding = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    headers: dict[str, str] = {}
    answer: Message
    try:
        answer, status = await _take(request, receiver, signal, encoding), 200
    except Refused as refused:
        status, code = _STATUSES[refused.refusal]
        answer = Status(code=code, message=str(refused))
        if refused.refusal is Refusal.BUSY:
            headers["Retry-After"] = str(RETRY_S)
        elif refused.refusal is Refusal.UNKNOWN_SENDER:
            headers["WWW-Authenticate"] = "Bearer"
    receiver.answered(signal, status)
    spoken = encoding if encoding in ENCODINGS else PROTOBUF
    return Response(render(spoken, answer), status_code=status, media_type=spoken, headers=headers)


async def _take(request: Request[Any, Any, Any], receiver: Receiver, signal: str, encoding: str) -> Message:
    receiver.check_token(request.headers.get("authorization", ""))
    if encoding not in ENCODINGS:
        raise Refused(Refusal.UNSUPPORTED, f"content type {encoding!r}: {' or '.join(ENCODINGS)} is expected")
    with receiver.place():
        limit = receiver.max_body_bytes
        try:
            body = await read_body(request.stream(), request.headers.get("content-encoding", ""), limit)
        except BodyTooLarge:
            raise Refused(Refusal.TOO_LARGE, f"the body is larger than {limit} bytes after inflation") from None
        except EncodingUnknown as error:
            detail = f"content encoding {error}: {' or '.join(CONTENT_ENCODINGS)} is expected"
            raise Refused(Refusal.UNSUPPORTED, detail) from None
        except BodyUnreadable as error:
            raise Refused(Refusal.BAD, f"the body cannot be inflated: {error}") from None
        return await receiver.take(signal, encoding, body)


@post(["/v1/traces", LANGFUSE_PATH], status_code=200, summary="OTLP traces", tags=["otlp"])
async def traces(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    """Stores spans; 200 means durable."""
    return await _receive(request, state, "traces")


@post("/v1/logs", status_code=200, summary="OTLP logs: turn records", tags=["otlp"])
async def logs(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    """Stores turn records; 200 means durable. Other log records are counted, not stored."""
    return await _receive(request, state, "logs")


@post("/v1/metrics", status_code=200, summary="OTLP metrics: counted, not stored", tags=["otlp"])
async def metrics(request: Request[Any, Any, Any], state: State) -> Response[bytes]:
    """Counts metrics; none is stored."""
    return await _receive(request, state, "metrics")
