"""The turn's log: what the worker appends and every viewer reads. The bridge between a synchronous worker and the async server.

The log owns the frames of one turn, as bytes, in order. The worker's thread appends and never waits for anybody; each connection is a
cursor with a wake-up in its own event loop. However many frames come, at most one wake-up a cursor is in flight. A frame is shown once it is
stored, or kept where a crash leaves it: what a viewer has seen, a crash cannot take back. Bounded in bytes. The first terminal wins; nothing can be
appended behind it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable

from msgspec import Struct

from lastword.events import Ack, Chunk, Done, Error, Known
from lastword.wire import encode_event
from service.cursor import SENT_AT_ONCE, Cursor, wake

MAX_READ_BYTES = 64 * 1024
"""How much a cursor hands out at a time, in bytes (more only where one frame is larger)."""


_ACK_SEQ = 1
_OPEN = (Chunk, Ack)  # a union would be built anew for every chunk; what is exactly the first costs least


class LogFull(Exception):
    """The log's limit in bytes is reached: the turn is to be truncated."""


class LogClosed(Exception):
    """A terminal stands in the log already."""


class Unsaved(Struct, frozen=True):
    """Frames that wait to be stored, joined, with the sequence numbers of the first and the last."""

    first_seq: int
    last_seq: int
    frames: bytes


class TurnLog:
    """The frames of one turn. `append` belongs to the worker; cursors belong to event loops.

    With `on_append` what is appended is shown once it was `publish`ed, by whoever stores it; without, at once. It is called once for all that is appended until
    `unsaved` is asked. `is_ahead` says that it may be shown before it is stored, by the thread that appended it.
    """

    def __init__(
        self, turn_id: str, max_bytes: int, on_append: Callable[[TurnLog], None] | None = None, *, is_ahead: bool = False
    ) -> None:
        self.turn_id = turn_id
        self.is_ahead = is_ahead
        self._max_bytes = max_bytes
        self._on_append = on_append
        self._lock = threading.Lock()
        self._frames: list[bytes] = []
        self._bytes = 0
        self._stored = 0
        self._published = 0  # what viewers can read: stored, or kept until it is
        self._told = False  # whether `on_append` knows of everything that is not stored
        self._terminal: Done | Error | None = None
        self._sealed = False
        self._closed = False
        self._cursors: set[Cursor] = set()

    @property
    def last_seq(self) -> int:
        """The sequence number of the newest frame, 0 where there is none."""
        return len(self._frames)

    @property
    def shown_seq(self) -> int:
        """The sequence number of the newest frame that viewers can read."""
        return self._published

    @property
    def stored_seq(self) -> int:
        """The sequence number of the newest frame that is stored."""
        return self._stored

    @property
    def silent(self) -> bool:
        """Whether viewers have seen no text of the turn yet."""
        return self._published <= _ACK_SEQ

    @property
    def terminal(self) -> Done | Error | None:
        """The terminal, once there is one."""
        return self._terminal

    @property
    def closed(self) -> bool:
        """Whether anything can still come: false until a terminal was appended, or the log was closed without one."""
        return self._closed

    @property
    def size_bytes(self) -> int:
        """Length of all frames."""
        return self._bytes

    @property
    def frames_bytes(self) -> bytes:
        """The whole log as it stands on the wire."""
        with self._lock:
            return b"".join(self._frames)

    def append(self, event: Known) -> None:
        """Appends the next event. Its `seq` must be `last_seq + 1`. A terminal is stored before it is appended, so it is shown at once.

        Raises:
            LogClosed: there is a terminal already.
            LogFull: the event does not fit any more; terminals and `ack` always fit.
            ValueError: the sequence number is not the next one.
        """
        frame = encode_event(event)
        terminal = None if isinstance(event, _OPEN) else event
        with self._lock:
            if self._closed:
                raise LogClosed(self.turn_id)
            if event.seq != len(self._frames) + 1:
                raise ValueError(f"seq {event.seq} after {len(self._frames)}")
            if terminal is None and self._frames and self._bytes + len(frame) > self._max_bytes:
                raise LogFull(f"{self._max_bytes} bytes")
            self._frames.append(frame)
            self._bytes += len(frame)
            told, self._told = self._told, True
            if terminal is None and self._on_append is not None:
                sleepers = None
            else:
                self._terminal = terminal
                self._closed = terminal is not None
                sleepers = self._publish(len(self._frames))
        if sleepers is not None:
            wake(sleepers)
        elif self._on_append is not None and not told:
            self._on_append(self)

    def take_over(self, frames: list[bytes], terminal: Done | Error | None = None) -> None:
        """Appends frames that another instance has stored, and closes the log behind its terminal."""
        with self._lock:
            if self._closed:
                return
            self._frames += frames
            self._bytes += sum(map(len, frames))
            self._terminal = terminal
            self._closed = terminal is not None
            sleepers = self._publish(len(self._frames))
        wake(sleepers)

    def seal(self) -> None:
        """Only the terminal follows: it is stored with the whole log, so what waits need not be stored by itself."""
        with self._lock:
            self._sealed = True

    def unsaved(self) -> Unsaved | None:
        """What waits to be stored and published; None where nothing does. Of a log that ended without a terminal it is what viewers have seen: a recovery follows it."""
        with self._lock:
            self._told = False
            if self._terminal is not None or (self._sealed and not self._closed):
                return None
            end = self._published if self._closed else len(self._frames)
            if end <= self._stored:
                return None
            return Unsaved(self._stored + 1, end, b"".join(self._frames[self._stored : end]))

    def unshown(self) -> Unsaved | None:
        """What viewers cannot read yet; None where they can read all."""
        with self._lock:
            self._told = False
            waiting = self._frames[self._published :]
            if not waiting or self._sealed or self._closed:
                return None
            frames = waiting[0] if len(waiting) == 1 else b"".join(waiting)
            return Unsaved(self._published + 1, len(self._frames), frames)

    def publish(self, seq: int) -> None:
        """Shows the frames up to a sequence number: they are stored."""
        wake(self.mark_published(seq))

    def mark_published(self, seq: int) -> list[Cursor]:
        """Shows the frames up to a sequence number; the cursors that are to be woken, by the caller."""
        with self._lock:
            self._stored = max(self._stored, seq)
            return self._publish(seq)

    def show(self, piece: Unsaved) -> None:
        """Shows a piece, and all before it: it is kept where a crash leaves it, and will be stored.

        The caller's thread sends it where it can: a person need not wait until the event loop comes to it.
        """
        with self._lock:
            sleepers = self._publish(piece.last_seq)
        if len(sleepers) <= SENT_AT_ONCE and len(piece.frames) <= MAX_READ_BYTES:
            sleepers = [one for one in sleepers if not one.send(piece.first_seq, piece.last_seq, piece.frames)]
        if sleepers:
            wake(sleepers)

    def close(self) -> None:
        """Ends the log without a terminal: the turn was rejected before `ack`, or another instance has closed it. Nothing will come."""
        with self._lock:
            unsaved = not self._closed and self._stored < self._published
            self._closed = True
            sleepers = self._publish(self._published)
        wake(sleepers)
        if unsaved and self._on_append is not None:
            self._on_append(self)

    def _publish(self, seq: int) -> list[Cursor]:
        """Under the lock: the cursors that are to be woken, where there is something to wake them for."""
        if seq <= self._published and not self._closed:
            return []
        self._published = max(self._published, seq)
        return [cursor for cursor in self._cursors if cursor.mark_notified()]

    def read(self, after: int, max_bytes: int = MAX_READ_BYTES) -> tuple[bytes, int]:
        """Frames behind sequence number `after`, joined, and the sequence number of the last one."""
        with self._lock:
            frames = self._frames
            size = 0
            end = after
            while end < self._published and (size == 0 or size + len(frames[end]) <= max_bytes):
                size += len(frames[end])
                end += 1
            if end - after == 1:
                return frames[after], end
            return b"".join(frames[after:end]), end

    def cursor(self, after: int = 0) -> Cursor:
        """A reader of what comes behind sequence number `after`, for the running event loop."""
        cursor = Cursor(self, self._lock, after, asyncio.get_running_loop())
        with self._lock:
            self._cursors.add(cursor)
        return cursor

    def forget(self, cursor: Cursor) -> None:
        """Stops waking this cursor."""
        with self._lock:
            self._cursors.discard(cursor)

    @property
    def viewers(self) -> int:
        """How many cursors are open."""
        return len(self._cursors)


def publish_all(stored: Iterable[tuple[TurnLog, int]]) -> None:
    """Shows frames of many logs, each up to its sequence number. Each event loop is woken once, however many of its cursors have something to read."""
    wake([cursor for log, seq in stored for cursor in log.mark_published(seq)])
