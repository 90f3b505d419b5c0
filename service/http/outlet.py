"""A way into a connection past its event loop: the thread that has made a piece of text sends it.

A person's text would wait until the loop is woken, gets the interpreter and comes to their connection; with a hundred turns that is most of its delay. Knows
how a server that hands over its transport frames a response body; what wraps an application's `send` does not see what goes this way. Invariants: nothing is
sent here while the transport holds bytes of its own, so all arrive in order; nothing waits; the descriptor is ours, so that it names this connection however
the server ends. The transport is touched in the event loop's thread only.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from litestar.types import Scope

TRANSPORT = "lastword.transport"
"""The ASGI extension by which a server hands over its `asyncio.Transport`, so that a stuck connection can be cut and text be sent past the event loop."""


def transport_of(scope: Scope) -> asyncio.Transport | None:
    """The connection of a request, where its server hands it over."""
    extensions: dict[str, Any] = scope.get("extensions") or {}
    return extensions.get(TRANSPORT)


def outlet_of(scope: Scope) -> SocketOutlet | None:
    """A way past the event loop for the body of a response in progress; None where there is none: encrypted, of another server, or not in chunks."""
    transport = transport_of(scope)
    if (
        transport is None
        or scope.get("http_version") != "1.1"
        or scope.get("method") == "HEAD"
        or transport.is_closing()
        or transport.get_extra_info("sslcontext")
    ):
        return None
    try:
        descriptor = os.dup(transport.get_extra_info("socket").fileno())
    except OSError:  # no descriptor is left, or the client has gone
        return None
    if os.get_blocking(descriptor):
        os.close(descriptor)
        return None
    return SocketOutlet(transport, descriptor)


class SocketOutlet:
    """Writes chunks of a response body, as HTTP/1.1 frames them, to a socket that does not block."""

    def __init__(self, transport: asyncio.Transport, descriptor: int) -> None:
        self._transport = transport
        self._descriptor = descriptor
        self._rest = b""

    @property
    def has_rest(self) -> bool:
        """Whether a piece was taken in part."""
        return bool(self._rest)

    @property
    def is_clear(self) -> bool:
        """Whether the transport has sent all that it was given."""
        return not self._rest and self._transport.get_write_buffer_size() == 0

    def send(self, data: bytes) -> bool:
        """Hands a piece to the kernel; false where it takes nothing, or the client has gone: then the loop finds out."""
        chunk = b"%x\r\n%b\r\n" % (len(data), data)
        try:
            taken = os.write(self._descriptor, chunk)
        except OSError:
            return False
        if taken < len(chunk):
            self._rest = chunk[taken:]
        return True

    def settle(self) -> None:
        """Hands the rest to the transport."""
        rest, self._rest = self._rest, b""
        if not self._transport.is_closing():  # else the client has gone, and the response is about to end
            self._transport.write(rest)

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._descriptor)
