"""Connections that can be cut in every phase, from any thread: one for each call, never kept.

Owns the sockets of calls in progress. Knows nothing of providers, requests or turns. Invariant: from the first packet on, a line that
is cut wakes whoever waits on its socket at once, and a line that was cut before that never connects. Resolving a name is the one
phase that the system offers no way to interrupt.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import httpcore2
import httpx2
from httpcore2._backends.sync import (
    SyncStream,
)  # private, but the library's own stream over a socket, TLS included, is not exported


class Line:
    """The way of one call to its provider, which any thread may cut.

    Holds a duplicate of the socket: it means the same connection, and stays valid where TLS takes the original away.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._is_cut = False

    @property
    def is_cut(self) -> bool:
        """Whether somebody cut it."""
        return self._is_cut

    def attach(self, connecting: socket.socket) -> None:
        """The call has this socket from now on.

        Raises:
            OSError: the line was cut already, or the process has no descriptor left.
        """
        with self._lock:
            if self._is_cut:
                raise ConnectionAbortedError(errno.ECONNABORTED, "cut")
            self._release()
            self._socket = connecting.dup()

    def cut(self) -> None:
        """Ends both directions of the connection, in whatever phase it is."""
        with self._lock:
            self._is_cut = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # the peer was faster
                    self._socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """The call has ended: gives the descriptor back."""
        with self._lock:
            self._release()

    def _release(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class _Backend(httpcore2.NetworkBackend):
    """Opens TCP connections, each on the line of the present thread."""

    def __init__(self, local: threading.local) -> None:
        self._local = local

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Tries the addresses of a host one after the other, each within the time-out (in seconds)."""
        line: Line = self._local.line
        source = None if local_address is None else (local_address, 0)
        error: OSError = OSError(f"no address for {host}")
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except OSError as unknown:
            raise httpcore2.ConnectError(str(unknown)) from unknown
        for family, kind, protocol, _, address in addresses:
            opened = socket.socket(family, kind, protocol)
            try:
                if source is not None:
                    opened.bind(source)
                _connect(opened, address, timeout, line)
                for option in socket_options or ():
                    opened.setsockopt(*option)
                opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as the library does: requests are small
            except OSError as failed:
                opened.close()
                error = failed
                if line.is_cut:
                    break
            else:
                return SyncStream(opened)
        raise (httpcore2.ConnectTimeout if isinstance(error, TimeoutError) else httpcore2.ConnectError)(str(error)) from error


def _connect(opened: socket.socket, address: Any, timeout_s: float | None, line: Line) -> None:
    """Connects without blocking, so that the line has the socket before anybody waits on it.

    Raises:
        OSError: it could not, not in time, or the line was cut.
    """
    opened.setblocking(False)
    begun = opened.connect_ex(address)
    if begun not in (0, errno.EINPROGRESS):
        raise OSError(begun, os.strerror(begun))
    line.attach(opened)
    waiting = select.poll()  # not select: its descriptors end at 1024
    waiting.register(opened, select.POLLOUT)
    if not waiting.poll(None if timeout_s is None else timeout_s * 1000):
        raise TimeoutError(errno.ETIMEDOUT, "no connection in time")
    failed = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed or line.is_cut:
        raise OSError(failed or errno.ECONNABORTED, os.strerror(failed) if failed else "cut")
    opened.settimeout(timeout_s)


class LineTransport(httpx2.HTTPTransport):
    """HTTP over lines: a request goes out on the line that its thread is using. Thread-safe."""

    def __init__(self) -> None:
        super().__init__(limits=httpx2.Limits(max_connections=None, max_keepalive_connections=0))
        self._local = threading.local()
        self._pool._network_backend = _Backend(self._local)  # noqa: SLF001 - the transport has no parameter for it; a test connects

    @contextlib.contextmanager
    def using(self, line: Line) -> Iterator[None]:
        """The present thread's requests go out on this line."""
        self._local.line = line
        try:
            yield
        finally:
            del self._local.line
