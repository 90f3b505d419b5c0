"""Takes every OTLP request and says that it was stored: `python -m benchmarks.service.fake_collector PORT`. What it costs stands on the client's core."""

from __future__ import annotations

import asyncio

from benchmarks.service.tiny_http import serve

_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n"


async def _take(_: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(_ANSWER)


if __name__ == "__main__":
    serve(_take)
