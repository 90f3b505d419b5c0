"""OTLP attribute values to plain Python values, bounded in number, size and depth. Pure."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

MAX_DEPTH = 8
MAX_ITEMS = 1024


class AttributeLimits(Struct, frozen=True):
    """How many attributes are kept of one span or event, and how long a text value may be."""

    count: int
    chars: int


def plain_value(value: AnyValue, limits: AttributeLimits, depth: int = 0) -> Any:
    """The value as JSON knows it. Bytes become base64; what is nested too deeply becomes null."""
    kind = value.WhichOneof("value")
    match kind:
        case "string_value":
            return value.string_value[: limits.chars]
        case "int_value" | "bool_value" | "double_value":
            return getattr(value, kind)
        case "bytes_value":
            return base64.b64encode(value.bytes_value[: limits.chars]).decode()
        case "array_value" if depth < MAX_DEPTH:
            return [plain_value(item, limits, depth + 1) for item in value.array_value.values[:MAX_ITEMS]]
        case "kvlist_value" if depth < MAX_DEPTH:
            return {item.key: plain_value(item.value, limits, depth + 1) for item in value.kvlist_value.values[:MAX_ITEMS]}
        case _:
            return None


def plain_attributes(attributes: Iterable[KeyValue], limits: AttributeLimits) -> dict[str, Any]:
    """Attributes by name, at most `limits.count` of them."""
    plain: dict[str, Any] = {}
    for item in attributes:
        if len(plain) >= limits.count:
            break
        plain[item.key] = plain_value(item.value, limits)
    return plain


def as_json(value: Any) -> str:
    """JSON text; numbers that JSON does not know (NaN, infinities) become null."""
    return msgspec.json.encode(value).decode()
