"""The service on uvicorn.

Owns the order of an end: on SIGTERM or Ctrl-C the running turns get their terminals first, while uvicorn takes no new connection and waits for the streams.
"""

from __future__ import annotations

import math
import signal
import socket
import threading
from collections.abc import Callable
from queue import SimpleQueue
from types import FrameType

import uvicorn
from litestar import Litestar
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from service.http.outlet import TRANSPORT
from service.server.listening import BACKLOG


class _Protocol(HttpToolsProtocol):
    """Hands its transport to the application: uvicorn itself has no way to cut a connection that does not take what it is sent."""

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self.scope["extensions"] = {TRANSPORT: self.transport}  # type: ignore[dict-item]  # extensions are of any shape


class _Server(uvicorn.Server):
    """Ends the running turns before it cuts their connections, so that every stream gets its terminal."""

    def __init__(self, config: uvicorn.Config, begin_drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._asked: SimpleQueue[None] = SimpleQueue()
        self._begin_drain = begin_drain
        # A thread of its own, because the drain takes locks; begun here, because a signal handler that starts one may be interrupted by itself.
        threading.Thread(target=self._drain, name="drain", daemon=True).start()

    def _drain(self) -> None:
        self._asked.get()
        self._begin_drain()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Runs in the signal handler, which may interrupt itself. What comes after the first signal changes nothing."""
        if not self.should_exit:
            super().handle_exit(sig, frame)
            self._asked.put(None)


def serve(app: Litestar, listening: socket.socket, *, begin_drain: Callable[[], None], drain_s: float) -> int:
    """Serves until SIGTERM or Ctrl-C; the exit status."""
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        backlog=BACKLOG,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=math.ceil(drain_s),
        lifespan="on",
    )
    server = _Server(config, begin_drain)
    # The server ends by raising the signal that stopped it once more, at the handlers of before: these, so that a clean end has status 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: None)
    server.run(sockets=[listening])
    return 0 if server.started else 1
