"""Request bodies: read within a limit, inflated within a limit."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator


class BodyTooLarge(Exception):
    """The body, or what it inflates to, is larger than the limit."""


class BodyUnreadable(Exception):
    """The body is not what its headers say."""


class EncodingUnknown(Exception):
    """A content encoding that is not understood."""


async def read_body(stream: AsyncIterator[bytes], encoding: str, limit: int) -> bytes:
    """The whole body, inflated piece by piece, so that a bomb is never held in memory.

    Raises:
        BodyTooLarge: beyond `limit` bytes after inflation.
        BodyUnreadable: broken gzip, or cut short.
        EncodingUnknown: neither identity nor gzip.
    """
    match encoding.strip().lower():
        case "" | "identity":
            inflate = None
        case "gzip":
            inflate = zlib.decompressobj(wbits=31)
        case other:
            raise EncodingUnknown(other)
    body = bytearray()
    async for piece in stream:
        if inflate is None:
            body += piece
        else:
            try:
                body += inflate.decompress(piece, limit + 1 - len(body))
            except zlib.error as error:
                raise BodyUnreadable(str(error)) from error
            if inflate.unconsumed_tail:
                raise BodyTooLarge
        if len(body) > limit:
            raise BodyTooLarge
    if inflate is not None and (body or not inflate.eof) and not inflate.eof:
        raise BodyUnreadable("the gzip stream is cut short")
    return bytes(body)
