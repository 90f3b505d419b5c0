"""What a body would weigh in memory, found before it is decoded: a message of two bytes becomes an object of a hundred. Pure.

Knows the schema by its descriptors alone. Invariant: the count stops at the limit, so that weighing costs no more than that.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TypeAlias

from google.protobuf.descriptor import Descriptor, FieldDescriptor

SMALL_BYTES = 1024 * 1024
"""A body below this is light whatever it holds, and is not weighed."""
MAX_PARTS = 4_000_000
"""Messages inside one request, or values of its JSON. A full body of ordinary spans has fewer."""

_FIXED = {1: 8, 5: 4}
"""Wire type to the length of its values."""

Parts: TypeAlias = dict[int, str]
"""Field number to the name of the message type that it holds."""


def heavy_json(body: bytes) -> bool:
    """Whether a JSON body has more values than the limit. Counts signs in texts as well, which ordinary texts have few of."""
    return len(body) > SMALL_BYTES and body.count(b",") + body.count(b"{") + body.count(b"[") > MAX_PARTS


def heavy_protobuf(body: bytes, kind: Descriptor) -> bool:
    """Whether a body has more messages than the limit. What is malformed is not judged here: the decoder says so."""
    if len(body) <= SMALL_BYTES:
        return False
    types = _types(kind)
    waiting = [(0, len(body), kind.full_name)]
    parts = 0
    try:
        while waiting:
            at, end, name = waiting.pop()
            for inner in _inside(body, at, end, types[name]):
                parts += 1
                if parts > MAX_PARTS:
                    return True
                waiting.append(inner)
    except IndexError:  # cut short
        return False
    return False


def _inside(body: bytes, at: int, end: int, fields: Parts) -> Iterator[tuple[int, int, str]]:
    """Where the messages in a message begin and end, and their types. Raises `IndexError` where the body is cut short or malformed."""
    while at < end:
        tag, at = _varint(body, at)
        wire = tag & 7
        if wire == 2:
            size, at = _varint(body, at)
            if (name := fields.get(tag >> 3)) is not None:
                yield at, min(at + size, end), name
            at += size
        elif wire == 0:
            _, at = _varint(body, at)
        elif wire in _FIXED:
            at += _FIXED[wire]
        else:
            raise IndexError


def _varint(body: bytes, at: int) -> tuple[int, int]:
    byte = body[at]
    if byte < 128:
        return byte, at + 1
    value, shift = byte & 127, 7
    while shift < 70:
        at += 1
        byte = body[at]
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at + 1
        shift += 7
    raise IndexError


@cache
def _types(kind: Descriptor) -> dict[str, Parts]:
    """The message fields of a type and of all types inside it."""
    found: dict[str, Parts] = {}
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        if one.full_name in found:
            continue
        inner = {field.number: field.message_type for field in one.fields if field.type == FieldDescriptor.TYPE_MESSAGE}
        found[one.full_name] = {number: message.full_name for number, message in inner.items()}
        waiting += inner.values()
    return found
