"""As much of an HTTP server as the stand-ins need: they must cost less than what is measured."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


async def _bodies(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """The bodies of the requests on a connection, until it is closed."""
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = _LENGTH.search(head)
            yield await reader.readexactly(int(length[1]) if length else 0)
    except (asyncio.IncompleteReadError, ConnectionError):
        pass  # the other side has gone


def serve(answer: Answer) -> None:
    """Answers every request on the port that the command line names, until the process is ended."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async for body in _bodies(reader):
                await answer(body, writer)
                await writer.drain()
        except ConnectionError:
            pass  # it has gone while it was answered
        finally:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(connected, "127.0.0.1", int(sys.argv[1]), backlog=2048)
        await server.serve_forever()

    asyncio.run(run())
