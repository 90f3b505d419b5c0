"""Processes that decode large bodies of spans, so that decoding one takes nothing from storing another: Python runs in one thread of a process at a time.

Owns the processes. Each is started when it is first needed, and anew where it ended; whoever waited for one that ended is told to try again. Bounded: as many bodies at a
time as there are processes, and one more: where all are held up by bodies that take seconds, one is started for the others, until two have no work.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import queue
import select
import subprocess
import sys
import threading
from collections.abc import Callable
from io import FileIO
from typing import cast

import msgspec
import pyarrow as pa

from collector.receive.attributes import AttributeLimits
from collector.receive.decoder import ANSWER, BODY, Outcome
from collector.store.tables import SPANS

logger = logging.getLogger(__name__)

LARGE_BYTES = 64 * 1024
"""From here on a body is worth the way to another process and back."""
_PIPE_BYTES = 1024 * 1024
"""What a pipe holds, where the system lets it: an ordinary body goes in at once."""
ANSWER_S = 60
"""A process that does nothing for so long is ended: the largest body takes a few seconds."""
_END_S = 5.0
HELD_UP_S = 2.0
"""A body that waits for so long has others before it that are no ordinary ones: those take some milliseconds each."""


class Gone(Exception):
    """The process ended before it answered: of want of memory, or by hand."""


class _Process:
    """One of them, with its pipes."""

    def __init__(self, limits: AttributeLimits) -> None:
        command = [sys.executable, "-m", "collector.receive.decoder", str(limits.count), str(limits.chars)]
        self._child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        if self._child.stdin is None or self._child.stdout is None:
            raise RuntimeError("a process without pipes")  # what the call above asks for is not given
        self._in = cast("FileIO", self._child.stdin)  # unbuffered, as asked for
        self._out = cast("FileIO", self._child.stdout)
        os.set_blocking(self._in.fileno(), False)  # what does not fit waits where it can be ended: in `_wait`
        self._room, self._answer = select.poll(), select.poll()
        self._room.register(self._in, select.POLLOUT)
        self._answer.register(self._out, select.POLLIN)
        for end in (self._in, self._out):
            with contextlib.suppress(
                OSError, AttributeError
            ):  # only slower where the system refuses it, or knows no such thing
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def ask(self, body: bytes) -> tuple[Outcome, pa.Table]:
        """What a body came to.

        Raises:
            Gone: the process ended.
        """
        try:
            self._write(BODY.pack(len(body)))
            self._write(body)
            told, spans = ANSWER.unpack(self._read(ANSWER.size))
            outcome = msgspec.msgpack.decode(self._read(told), type=Outcome)
            batches = [pa.ipc.read_record_batch(pa.py_buffer(self._read(spans)), SPANS)] if spans else []
        except OSError as error:
            raise Gone(str(error)) from error
        return outcome, pa.Table.from_batches(batches, SPANS)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            self._wait(self._room)
            rest = rest[self._in.write(rest) or 0 :]

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        rest = memoryview(data)
        while rest:
            self._wait(self._answer)
            count = self._out.readinto(rest)
            if not count:
                raise BrokenPipeError("it closed its end")
            rest = rest[count:]
        return data

    def _wait(self, end: select.poll) -> None:
        """Until a pipe can be used, or has lost its other end."""
        if not end.poll(ANSWER_S * 1000):
            self._child.kill()
            raise TimeoutError(f"it did nothing for {ANSWER_S} s")

    def end(self) -> None:
        """Ends it: it has nothing to lose."""
        with contextlib.suppress(OSError):
            self._in.close()
        try:
            self._child.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._out.close()


class Decoders:
    """Some processes. Any thread asks; a call takes one of them for as long as it lasts."""

    def __init__(self, count: int, limits: AttributeLimits) -> None:
        self.count = count
        self.ended = 0
        self._start: Callable[[], _Process] = lambda: _Process(limits)
        self._free: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(None)
        self._one_more = False
        self._lock = threading.Lock()

    def decode(self, body: bytes) -> tuple[Outcome, pa.Table]:
        """The outcome of a body of OTLP protobuf, and its spans.

        Raises:
            Gone: the process ended before it answered, or none can be started; another time there is a new one.
        """
        process = self._take()
        try:
            process = process or self._start()
            return process.ask(body)
        except (Gone, OSError) as error:
            if process is not None:
                process.end()
                process = None
            raise self._gone(error) from error
        finally:
            self._give_back(process)

    def _take(self) -> _Process | None:
        """A free place, with its process where that is started. Where all are held up there is one more of them."""
        with contextlib.suppress(queue.Empty):
            return self._free.get(timeout=HELD_UP_S)
        with self._lock:
            if not self._one_more:
                self._one_more = True
                return None
        return self._free.get()

    def _give_back(self, process: _Process | None) -> None:
        """Frees a place; where another one is free already there need not be one more."""
        with self._lock:
            if not self._one_more or self._free.empty():
                self._free.put(process)
                return
            self._one_more = False
        if process is not None:
            process.end()

    def _gone(self, error: Exception) -> Gone:
        self.ended += 1
        logger.warning("a decoder ended: %s", error)
        return Gone("a decoder ended")

    def close(self) -> None:
        """Ends the processes, behind the bodies in work."""
        for _ in range(self.count + self._one_more):
            if (process := self._free.get()) is not None:
                process.end()
