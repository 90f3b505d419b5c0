"""The service on granian, embedded: one process, whose signals and exit status are its own.

Owns the order of an end: on SIGTERM or Ctrl-C the running turns get their terminals and their streams are written, then granian is stopped. Granian's
own way to run, a supervisor with worker processes, is not used: its handler cuts the streams, and a supervisor that is killed leaves its worker behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable
from typing import Any

import uvloop
from granian._granian import SocketHolder  # private, but a listening socket of one's own cannot be handed over otherwise
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server
from litestar import Litestar

from service.server.listening import BACKLOG

_POLL_S = 0.02
_QUIET_POLLS = 3
"""Nothing may be going on so many times: between a turn's end and its stream's end others have to run."""


class _Server(Server):
    """Accepts on a socket that exists."""

    listening: socket.socket

    def _init_shared_socket(self) -> None:
        self._ssp = None
        holder: Any = SocketHolder
        self._shd = holder(self.listening.fileno(), False, self.backlog)


async def _serve(
    app: Litestar, listening: socket.socket, begin_drain: Callable[[], None], busy: Callable[[], bool], drain_s: float
) -> None:
    server = _Server(app, interface=Interfaces.ASGI, http=HTTPModes.http1, websockets=False, backlog=BACKLOG, log_enabled=False)
    server.listening = listening
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    serving = asyncio.create_task(server.serve())
    waiting = asyncio.create_task(asked.wait())
    await asyncio.wait((serving, waiting), return_when=asyncio.FIRST_COMPLETED)
    if asked.is_set():
        await asyncio.to_thread(begin_drain)  # in a thread, because it takes locks
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(drain_s):
                quiet = 0
                while quiet < _QUIET_POLLS:
                    quiet = 0 if busy() else quiet + 1
                    await asyncio.sleep(_POLL_S)
        server.signal_handler_interrupt()  # type: ignore[no-untyped-call]
    waiting.cancel()
    await serving


def serve(
    app: Litestar, listening: socket.socket, *, begin_drain: Callable[[], None], busy: Callable[[], bool], drain_s: float
) -> int:
    """Serves until SIGTERM or Ctrl-C; the exit status."""
    uvloop.run(_serve(app, listening, begin_drain, busy, drain_s))
    return 0
