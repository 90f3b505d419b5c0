"""The supervisor: starts the three programs, shows their logs by name, and ends them in order.

Owns the child processes. Knows the programs by module name only and never imports them. Invariants: what it started it ends, within a bound; a program that dies ends the others; every
wait has a limit.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import IO

import httpx2
from msgspec import Struct

READY_S = 90.0
STOP_GRACE_S = 15.0
POLL_S = 0.1
LAST_LINES = 20
MAX_LINE_CHARS = 2000


class Program(Struct, frozen=True, kw_only=True):
    """One program of the product. `health` is the address that answers 200 when it is ready."""

    name: str
    module: str
    port: int
    health: str


class StartError(Exception):
    """A program could not be started. The message says which, and why."""


class Supervisor:
    """Runs programs as children. Use from the main thread."""

    def __init__(self, programs: list[Program], environment: Mapping[str, str], show: Callable[[str, str], None]) -> None:
        self._programs = programs
        self._environment = dict(environment)
        self._show = show
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._last: dict[str, deque[str]] = {program.name: deque(maxlen=LAST_LINES) for program in programs}
        self._readers: list[threading.Thread] = []

    def check_ports(self) -> None:
        """Raises `StartError` where a port is taken, before anything is started."""
        for program in self._programs:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", program.port))
                except OSError as error:
                    variable = f"LASTWORD_{program.name.upper()}_PORT"
                    raise StartError(
                        f"port {program.port} of the {program.name} is taken; choose another with {variable}=…"
                    ) from error

    def start(self) -> None:
        """Starts all programs."""
        for program in self._programs:
            child = subprocess.Popen(
                [sys.executable, "-m", "lastword.cli.child", program.module],
                env={**self._environment, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,  # held open: its end tells the child that we are gone
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us alone; we end the children in order
            )
            self._children[program.name] = child
            if child.stdout is not None:
                reader = threading.Thread(
                    target=self._read, args=(program.name, child.stdout), name=f"log-{program.name}", daemon=True
                )
                reader.start()
                self._readers.append(reader)

    def _read(self, name: str, stream: IO[bytes]) -> None:
        with stream:
            for raw in iter(lambda: stream.readline(MAX_LINE_CHARS), b""):
                line = raw.decode(errors="replace").rstrip()
                if line:
                    self._last[name].append(line)
                    self._show(name, line)

    def wait_ready(self, stop: threading.Event) -> bool:
        """Waits until every program answers; false where `stop` was set first.

        Raises:
            StartError: a program ended, or was not ready in time.
        """
        end = time.monotonic() + READY_S
        waiting = list(self._programs)
        while waiting:
            if stop.is_set():
                return False
            for program in self._programs:
                status = self._children[program.name].poll()
                if status is not None:
                    raise StartError(f"the {program.name} ended with status {status}:\n" + self._tail(program.name))
            waiting = [program for program in waiting if not _answers(program.health)]
            if waiting and time.monotonic() > end:
                name = waiting[0].name
                raise StartError(f"the {name} was not ready within {READY_S:.0f} s:\n" + self._tail(name))
            stop.wait(POLL_S)
        return True

    def watch(self, stop: threading.Event, *, parent: int | None = None) -> str | None:
        """Waits until `stop` is set, or until `parent` is not our parent any more where one is named; the name of a program that ended by itself."""
        while not stop.wait(POLL_S * 3):
            if parent is not None and os.getppid() != parent:
                return None
            for name, child in self._children.items():
                if child.poll() is not None:
                    return name
        return None

    def _tail(self, name: str) -> str:
        return "\n".join(f"  {line}" for line in self._last[name]) or "  (it printed nothing)"

    def stop(self) -> None:
        """Ends the programs in the reverse order of data: first what produces, last what stores."""
        for name in ("service", "dashboard", "collector"):
            child = self._children.get(name)
            if child is not None:
                _end(child)
        for name, child in self._children.items():
            if name not in ("service", "dashboard", "collector"):
                _end(child)
        for reader in self._readers:
            reader.join(2)

    def kill(self) -> None:
        """Ends everything at once."""
        for child in self._children.values():
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
    try:
        child.wait(STOP_GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        return False
