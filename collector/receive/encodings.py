"""The two encodings of OTLP/HTTP: protobuf, and JSON by its own mapping (ids in hexadecimal, numbers of 64 bits as text or as numbers). Pure."""

from __future__ import annotations

import base64
import binascii
from typing import Any, TypeVar

import msgspec
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.receive.lazy import LazyRequest
from collector.receive.weight import MAX_PARTS, heavy_json, heavy_protobuf

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
ENCODINGS = (PROTOBUF, JSON)
_IDS = frozenset({"traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"})

_HEAVY = f"the request has more than {MAX_PARTS} parts"

M = TypeVar("M", bound=Message)


class Undecodable(Exception):
    """The body is not what its content type says."""


class TooHeavy(Exception):
    """The body has so many parts that decoding it would take far more memory than it is long."""


def parse(encoding: str, kind: type[M], body: bytes) -> M:
    """The message of a body; unknown fields are ignored.

    Raises:
        TooHeavy: it has too many parts.
        Undecodable: it is none. A single id that is no hexadecimal is left out instead, so that it costs its own span and no other.
    """
    message: M = kind()
    if heavy_protobuf(body, kind.DESCRIPTOR) if encoding == PROTOBUF else heavy_json(body):
        raise TooHeavy(_HEAVY)
    try:
        if encoding == PROTOBUF:
            message.ParseFromString(body)
            return message
        document = msgspec.json.decode(body) if body.strip() else {}
        if not isinstance(document, dict):
            raise Undecodable("a JSON object is expected")
        _ids_to_bytes(document)
        ParseDict(document, message, ignore_unknown_fields=True)
    except (DecodeError, ParseError, msgspec.MsgspecError, UnicodeError, RecursionError, ValueError, TypeError) as error:
        raise Undecodable(str(error)[:300] or type(error).__name__) from error
    return message


def parse_spans(encoding: str, body: bytes) -> Any:
    """A body of spans: a `LazyRequest` where it is protobuf, else an `ExportTraceServiceRequest`.

    Raises:
        TooHeavy, Undecodable: as `parse`.
    """
    if encoding != PROTOBUF:
        return parse(encoding, ExportTraceServiceRequest, body)
    if heavy_protobuf(body, ExportTraceServiceRequest.DESCRIPTOR):
        raise TooHeavy(_HEAVY)
    try:
        return LazyRequest.FromString(body)
    except DecodeError as error:
        raise Undecodable(str(error)[:300] or type(error).__name__) from error


def render(encoding: str, message: Message) -> bytes:
    """A message in the encoding of its request."""
    return message.SerializeToString() if encoding == PROTOBUF else msgspec.json.encode(MessageToDict(message))


def _ids_to_bytes(document: dict[str, Any]) -> None:
    """Ids stand in hexadecimal in OTLP's JSON, and in base64 in the mapping that protobuf knows. Without recursion: a body may be nested as it likes."""
    waiting: list[Any] = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            for key in _IDS & value.keys():
                if isinstance(value[key], str):
                    value[key] = _base64(value[key])
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _base64(hexadecimal: str) -> str:
    try:
        return base64.b64encode(binascii.unhexlify(hexadecimal)).decode()
    except (binascii.Error, ValueError):
        return ""
