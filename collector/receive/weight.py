"""What a body would weigh in memory, found before it is decoded: a message of two bytes becomes an object of a hundred. Pure.

Knows the schema by its descriptors alone. Invariant: the count stops at the limit, so that weighing costs no more than that.
"""

from __future__ import annotations

from functools import cache

from google.protobuf.descriptor import Descriptor, FieldDescriptor

SMALL_BYTES = 1024 * 1024
"""A body below this is light whatever it holds, and is not weighed."""
MAX_PARTS = 4_000_000
"""Messages inside one request, or values of its JSON. A full body of ordinary spans has fewer."""

_FIXED = {1: 8, 5: 4}
"""Wire type to the length of its values."""


class Kind:
    """A message type: its message fields by their numbers."""

    __slots__ = ("fields",)

    def __init__(self) -> None:
        self.fields: dict[int, Kind] = {}


def heavy_json(body: bytes) -> bool:
    """Whether a JSON body has more values than the limit. Counts signs in texts as well, which ordinary texts have few of."""
    return len(body) > SMALL_BYTES and body.count(b",") + body.count(b"{") + body.count(b"[") > MAX_PARTS


def heavy_protobuf(body: bytes, kind: Descriptor) -> bool:  # noqa: C901, PLR0912 - a call for each message would take three times as long
    """Whether a body has more messages than the limit. What is malformed is not judged here: the decoder says so."""
    if len(body) <= SMALL_BYTES:
        return False
    # One loop without calls: a hostile body of 8 MB has four million messages, and whoever sends after it waits for this.
    waiting = [(0, len(body), _kind(kind).fields)]
    parts = 0
    try:
        while waiting:
            at, end, fields = waiting.pop()
            while at < end:
                tag = body[at]
                at += 1
                if tag > 127:
                    tag, at = _varint(body, at - 1)
                wire = tag & 7
                if wire == 2:
                    size = body[at]
                    at += 1
                    if size > 127:
                        size, at = _varint(body, at - 1)
                    if (inner := fields.get(tag >> 3)) is not None:
                        parts += 1
                        if parts > MAX_PARTS:
                            return True
                        if size and inner.fields:
                            waiting.append((at, min(at + size, end), inner.fields))
                    at += size
                elif wire == 0:
                    while body[at] > 127:
                        at += 1
                    at += 1
                elif wire in _FIXED:
                    at += _FIXED[wire]
                else:
                    return False
    except IndexError:  # cut short
        return False
    return False


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
def _kind(kind: Descriptor) -> Kind:
    """A message type with all types inside it; one may hold itself."""
    found: dict[str, Kind] = {}
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        made = found.setdefault(one.full_name, Kind())
        for field in one.fields:
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                inner = field.message_type
                if inner.full_name not in found:
                    found[inner.full_name] = Kind()
                    waiting.append(inner)
                made.fields[field.number] = found[inner.full_name]
    return found[kind.full_name]
