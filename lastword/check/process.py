"""The server under test as a process of ours: started by a command, stopped, killed, and looked at.

Owns the child and its process group; whatever happens, `close` leaves nothing running. What it prints goes to a file, whose end is shown where a start
fails.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from lastword.errors import LastwordError

START_S = 60.0
_KILL_S = 5.0


class CannotStart(LastwordError):
    """The command did not bring up a server in time."""


class Vitals(Struct, frozen=True, kw_only=True):
    """What a process uses. `resident_bytes` is None where it is not shown."""

    threads: int
    descriptors: int
    resident_bytes: int | None


class Process:
    """A server started by a command. `ready` tells whether it answers."""

    def __init__(self, command: str, environment: dict[str, str], log: Path, ready: Callable[[], bool]) -> None:
        try:
            self._arguments = shlex.split(command)
        except ValueError as error:
            raise CannotStart(f"the start command cannot be read: {error}") from error
        self._environment = environment
        self._log = log
        self._ready = ready
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._child is not None and self._child.poll() is None

    def start(self) -> None:
        """Starts it and waits until it answers.

        Raises:
            CannotStart: it ended, or did not answer in time. The message ends with what it printed last.
        """
        if not self._arguments:
            raise CannotStart("the start command is empty")
        with self._log.open("ab") as log:
            try:
                self._child = subprocess.Popen(
                    self._arguments,
                    env={**os.environ, **self._environment},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:
                raise CannotStart(f"{self._arguments[0]}: {getattr(error, 'strerror', None) or error}") from error
        end = time.monotonic() + START_S
        while True:
            ready = self._ready()
            if self._child.poll() is not None:  # looked at last: whatever answered was somebody else
                raise CannotStart(f"the server ended with status {self._child.returncode}:\n{self.tail()}")
            if ready:
                return
            if time.monotonic() > end:
                raise CannotStart(f"the server does not answer after {START_S:g} s:\n{self.tail()}")
            time.sleep(0.05)

    def tail(self, size: int = 2000) -> str:
        """The end of what it printed."""
        return self._log.read_bytes()[-size:].decode(errors="replace") if self._log.exists() else ""

    def terminate(self) -> None:
        """Asks it to end, as an operator would."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kills it and everything that it started."""
        self._signal(signal.SIGKILL)
        if self._child is not None:
            self._child.wait(_KILL_S)

    def wait_gone(self, timeout_s: float) -> float | None:
        """Seconds until it has ended; None where it has not within the time."""
        began = time.monotonic()
        while self.running:
            if time.monotonic() - began > timeout_s:
                return None
            time.sleep(0.02)
        return time.monotonic() - began

    def _signal(self, number: signal.Signals) -> None:
        if self._child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if number is signal.SIGKILL:
                os.killpg(self._child.pid, number)
            else:
                os.kill(self._child.pid, number)

    def vitals(self) -> Vitals | None:
        """Threads, descriptors and memory, read from /proc; None where there is no /proc."""
        if self._child is None:
            return None
        folder = Path(f"/proc/{self._child.pid}")
        try:
            fields = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
            return Vitals(
                threads=int(fields["Threads"]),
                descriptors=len(list((folder / "fd").iterdir())),
                resident_bytes=int(fields["VmRSS"].split()[0]) * 1024,
            )
        except (OSError, KeyError, ValueError):
            return None

    def close(self) -> None:
        """Ends it: politely, then not."""
        try:
            if self.running:
                self.terminate()
                self.wait_gone(_KILL_S)
        finally:  # also where somebody presses Ctrl-C once more
            self._signal(signal.SIGKILL)  # it, if it is still there, and what it may have started itself
            if self._child is not None:
                self._child.wait(_KILL_S)
