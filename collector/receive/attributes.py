"""OTLP attribute values to plain Python values, bounded in number, size and depth. Pure."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

MAX_DEPTH = 8
MAX_ITEMS = 1024
MEMO_ENTRIES = 50_000
MEMO_BYTES = 256
"""An attribute that is longer is not remembered."""


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


class Memo:
    """Attributes that were seen lately, by their bytes: what each is, and how it stands in JSON. Bounded: it forgets everything when it is full. Any thread.

    `meant` are the names whose values somebody reads; of all others the text is enough.
    """

    def __init__(self, limits: AttributeLimits, meant: Collection[str]) -> None:
        self.limits = limits
        self._meant = meant
        self._seen: dict[bytes, tuple[str, str, bool, Any]] = {}

    def read(self, attributes: Sequence[bytes]) -> tuple[dict[str, Any], str]:
        """Serialized attributes: those that are meant, as plain values; and all of them, the first `limits.count`, as JSON text.

        Raises:
            DecodeError: one of them is no `KeyValue`.
        """
        seen = self._seen
        wanted: dict[str, Any] = {}
        texts: dict[str, str] = {}
        for raw in attributes if len(attributes) <= self.limits.count else attributes[: self.limits.count]:
            name, text, meant, value = seen.get(raw) or self._read(raw)
            texts[name] = text
            if meant:
                wanted[name] = value
        return wanted, "{" + ",".join(texts.values()) + "}"

    def _read(self, raw: bytes) -> tuple[str, str, bool, Any]:
        item = KeyValue.FromString(raw)
        value = plain_value(item.value, self.limits)
        known = (item.key, f"{as_json(item.key)}:{as_json(value)}", item.key in self._meant, value)
        if len(raw) <= MEMO_BYTES:
            if len(self._seen) >= MEMO_ENTRIES:
                self._seen.clear()
            self._seen[raw] = known
        return known
