"""A TCP proxy that cuts connections, for tests of what survives that.

Forwards to one address in threads of its own. `cut_after` says how many bytes of an answer each next connection that carries a stream of events gets before it is
cut; `open` says whether connections are taken at all. Loopback only.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from types import TracebackType
from typing import Self

_RESET = struct.pack("ii", 1, 0)  # close with a reset instead of an end
_STREAM = b"text/event-stream"  # in an answer's head


class CuttingProxy:
    """Between a client and a server."""

    def __init__(self, port: int, *, piece_bytes: int = 65_536) -> None:
        self._target = ("127.0.0.1", port)
        self._piece_bytes = piece_bytes
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.cut_after: list[int] = []
        self.open = True
        self.cuts = 0
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self.open:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                client.close()
                continue
            server = socket.create_connection(self._target)
            with self._lock:
                self._sockets |= {client, server}
            threading.Thread(target=self._forward, args=(client, server), daemon=True).start()
            threading.Thread(target=self._answer, args=(server, client), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        left: int | None = None
        tail = b""  # the head of an answer may come in pieces
        with contextlib.suppress(OSError):
            while data := server.recv(self._piece_bytes):
                tail = (tail + data)[-len(data) - len(_STREAM) :]
                if left is None and _STREAM in tail and self.cut_after:
                    left = self.cut_after.pop(0)
                if left is not None and len(data) >= left:
                    client.sendall(data[:left])
                    self.cuts += 1
                    break
                left = None if left is None else left - len(data)
                client.sendall(data)
        self._close(client, server)

    def _close(self, *sockets: socket.socket) -> None:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)  # wakes the other direction's thread, which a close would not
            one.close()
        with self._lock:
            self._sockets -= set(sockets)

    def shut(self) -> None:
        """Takes no connection any more, and cuts those that are open."""
        self.open = False
        with self._lock:
            sockets = list(self._sockets)
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.close()
        self.shut()
