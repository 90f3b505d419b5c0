"""As much of HTTP/1.1 as the reference server needs: one request a connection."""

import asyncio
from dataclasses import dataclass, field
from typing import Any


class Gone(Exception):
    """The other side has left, or was dropped."""


class Reject(Exception):
    """A refusal before `ack`."""

    def __init__(
        self, status: int, detail: str, headers: dict[str, str] | None = None, extra: dict[str, Any] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.extra = status, detail, headers or {}, extra or {}


@dataclass
class Request:
    """A request, its header names in lower case."""

    method: str
    target: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    too_large: bool = False


async def read_request(reader: asyncio.StreamReader, max_body: int) -> Request:
    """Reads a request; of a body that is too large nothing is kept."""
    text = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = text.strip().split("\r\n")
    method, target, _ = first.split(" ")
    request = Request(method, target)
    for line in lines:
        name, _, value = line.partition(":")
        request.headers[name.strip().lower()] = value.strip()
    left = int(request.headers.get("content-length", "0"))
    request.too_large = left > max_body
    parts = []
    while left > 0:
        part = await reader.read(min(left, 65_536))
        if not part:
            raise Gone
        left -= len(part)
        if not request.too_large:
            parts.append(part)
    request.body = b"".join(parts)
    return request


async def respond(writer: asyncio.StreamWriter, status: int, headers: dict[str, str], body: bytes) -> None:
    """A whole response."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    length = f"Content-Length: {len(body)}\r\n" if status != 204 else ""
    writer.write(f"HTTP/1.1 {status} X\r\n{lines}{length}Connection: close\r\n\r\n".encode() + body)
    await writer.drain()
