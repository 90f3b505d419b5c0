"""The provider's side: one streaming call of the Messages API over a plain connection."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

from lastword.wire import FrameParser
from tests.conformance.reference.turn import Fault

_OVERLOADED = {"overloaded_error", "rate_limit_error"}


class Call:
    """One call. Iterate it; `close` hangs up at once."""

    def __init__(self, base: str, body: dict[str, Any]) -> None:
        self._parts = urlsplit(base)
        self._body = json.dumps(body).encode()
        self._writer: asyncio.StreamWriter | None = None

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """The events as they come, pings too. Ends where the response ends, whatever was missing."""
        host, port = self._parts.hostname or "", self._parts.port or 80
        try:
            reader, self._writer = await asyncio.open_connection(host, port)
            head = f"POST /v1/messages HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(self._body)}\r\nConnection: close\r\n"
            self._writer.write(head.encode() + b"Content-Type: application/json\r\nX-Api-Key: reference\r\n\r\n" + self._body)
            status, headers = await _head(reader)
            if status != 200:
                raise _refused(status, headers)
            parser = FrameParser()
            async for piece in _chunks(reader):
                for frame in parser.feed(piece):
                    yield json.loads(frame.data)
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Fault("provider_error", type(error).__name__) from error

    def close(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = text.strip().split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while (size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)) > 0:
        yield (await reader.readexactly(size + 2))[:-2]


def _refused(status: int, headers: dict[str, str]) -> Fault:
    after = headers.get("retry-after", "")
    overloaded = status in {429, 529}
    return Fault(
        "provider_overloaded" if overloaded else "provider_error",
        f"http_{status}",
        retry=status >= 500 or status == 429,
        retry_after=float(after) if after.isdigit() else 0.0,
    )


def fault_of(event: dict[str, Any]) -> Fault:
    """The fault of an error event inside a stream."""
    kind = event["error"]["type"]
    return Fault("provider_overloaded" if kind in _OVERLOADED else "provider_error", kind)
