"""Request bodies: read within a limit, inflated within a limit."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator
from typing import Protocol

import zstandard

_ZSTD_WINDOW = 8 * 1024 * 1024
"""The largest window that a frame may ask for, in bytes: what every decoder has to support, and what is allocated before a byte is inflated."""
_ZSTD_STEP = 256
"""Compressed bytes that are inflated at a time: a block of zstd is at least 4 bytes long and yields at most 128 KiB, so a step yields at most 8 MiB."""


class BodyTooLarge(Exception):
    """The body, or what it inflates to, is larger than the limit."""


class BodyUnreadable(Exception):
    """The body is not what its headers say."""


class EncodingUnknown(Exception):
    """A content encoding that is not understood."""


class _Inflater(Protocol):
    """Inflates piece by piece."""

    def feed(self, piece: bytes, room: int) -> bytes:
        """What a piece inflates to. Raises `BodyTooLarge` where that is more than `room` bytes."""
        ...

    @property
    def complete(self) -> bool:
        """Whether the stream came to its own end."""
        ...


class _Gzip:
    def __init__(self) -> None:
        self._inflate = zlib.decompressobj(wbits=31)

    def feed(self, piece: bytes, room: int) -> bytes:
        try:
            data = self._inflate.decompress(piece, room + 1)
        except zlib.error as error:
            raise BodyUnreadable(str(error)) from error
        if self._inflate.unconsumed_tail or len(data) > room:
            raise BodyTooLarge
        return data

    @property
    def complete(self) -> bool:
        return self._inflate.eof


class _Zstd:
    def __init__(self) -> None:
        self._inflate = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()

    def feed(self, piece: bytes, room: int) -> bytes:
        data = bytearray()
        try:
            for at in range(0, len(piece), _ZSTD_STEP):
                if self._inflate.eof:
                    break  # what follows the end is not ours
                data += self._inflate.decompress(piece[at : at + _ZSTD_STEP])
                if len(data) > room:
                    raise BodyTooLarge
        except zstandard.ZstdError as error:
            raise BodyUnreadable(str(error)) from error
        return bytes(data)

    @property
    def complete(self) -> bool:
        return self._inflate.eof


_INFLATERS: dict[str, type[_Gzip | _Zstd]] = {"gzip": _Gzip, "zstd": _Zstd}
CONTENT_ENCODINGS = ("identity", *_INFLATERS)


async def read_body(stream: AsyncIterator[bytes], encoding: str, limit: int) -> bytes:
    """The whole body, inflated piece by piece, so that a bomb is never held in memory.

    Raises:
        BodyTooLarge: beyond `limit` bytes after inflation.
        BodyUnreadable: broken compression, or cut short.
        EncodingUnknown: none of `CONTENT_ENCODINGS`.
    """
    name = encoding.strip().lower()
    inflater: _Inflater | None = None
    if name not in {"", "identity"}:
        if name not in _INFLATERS:
            raise EncodingUnknown(name)
        inflater = _INFLATERS[name]()
    body = bytearray()
    async for piece in stream:
        body += piece if inflater is None else inflater.feed(piece, limit - len(body))
        if len(body) > limit:
            raise BodyTooLarge
    if inflater is not None and not inflater.complete:
        raise BodyUnreadable(f"the {name} stream is cut short")
    return bytes(body)
