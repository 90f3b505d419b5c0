"""The socket that the service listens on.

Owns what every connection inherits from it. Invariant: no connection outlives the send timeout by much while its peer takes nothing, whatever the server
above does with it: closing a connection waits for its buffer, and a peer that does not read would keep it, and its descriptor, for ever.
"""

from __future__ import annotations

import socket

BACKLOG = 2048
"""Connections that may wait to be accepted."""

_PATIENCE = 2
"""How many send timeouts the system waits itself. More than one: it counts from when the peer's window closed, and opens it again in large steps only."""


def bind(host: str, port: int, *, send_timeout_ms: int) -> socket.socket:
    """A TCP socket at its address; the server begins to listen on it once it can answer.

    Raises:
        OSError: the address cannot be used.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; accepted sockets inherit it
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _PATIENCE * send_timeout_ms)
        listening.bind(address)
    except OSError:
        listening.close()
        raise
    return listening
