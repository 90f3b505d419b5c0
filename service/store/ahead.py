"""Frames of running turns, shown before the database has them: kept meanwhile in a small file beside SQLite's, where a crash of the process leaves them.

A person waits for text, and a commit waits for the commits before it. What is copied into a mapped file outlives the process at once, without a system call
that would give the interpreter away to a hundred workers. The file is a second place for a moment only: the writer stores the same frames as it stores all
others, later and many together, and a start stores what it finds. Invariants: nothing is overwritten before the database has it; what cannot be kept here is
not shown, and takes the usual way.
"""

from __future__ import annotations

import fcntl
import logging
import mmap
import os
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from weakref import ref

import msgspec
from msgspec import Struct, field
from sqlalchemy import Connection, Engine, func, select

from service.log import TurnLog
from service.store.models import TurnFramesRow, TurnRow
from service.store.statements import INSERT_FRAMES

logger = logging.getLogger(__name__)

_ENCODE = msgspec.msgpack.Encoder().encode
SUFFIX = "-ahead"
HALF_BYTES = 1 << 21
"""Half of the file: one is filled while the database takes over what is in the other. What does not fit waits for a commit."""
_PAGE_BYTES = 4096
SPACING_NS = 4_000_000
"""Between two pieces of one turn. Faster text is stored many pieces at a time, and shown then."""
_HEAD = struct.Struct("<QII")
"""Round, length of the record in bytes, CRC-32 over round and record. Records of a round lie one behind the other from the beginning of a half."""


_AWAKE_OR_NOT_NS = partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic_ns
"""The monotonic clock that goes on while the machine sleeps, as the leases of others do; where there is none, the one that does not."""


class KeptFrames(Struct, frozen=True, array_like=True):
    """Frames of a turn, joined."""

    turn_id: str
    first_seq: int
    frames: bytes


class _Newest(Struct):
    """The newest frame of a log in a half, and when it was kept. Who has forgotten the log has stored it."""

    log: ref[TurnLog]
    seq: int = 0
    at_ns: int = -SPACING_NS

    def is_stored(self) -> bool:
        """Whether the database has it."""
        log = self.log()
        return log is None or log.terminal is not None or log.stored_seq >= self.seq


class _Half(Struct):
    """Where the next record goes, and what the records are of, by turn."""

    begins: int
    round: int = 0
    end: int = 0
    newest: dict[str, _Newest] = field(default_factory=dict)

    def keeps(self, log: TurnLog, seq: int, at_ns: int) -> None:
        """A log's frames up to this one are here."""
        newest = self.newest.get(log.turn_id)
        if newest is None or newest.log() is not log:
            newest = self.newest[log.turn_id] = _Newest(ref(log))
        newest.seq, newest.at_ns = seq, at_ns

    def is_stored(self) -> bool:
        """Whether the database has all of it."""
        return all(newest.is_stored() for newest in self.newest.values())

    def begin(self, number: int) -> None:
        """Begins a round: what was here may be overwritten."""
        self.round, self.end, self.newest = number, self.begins, {}


class AheadFile:
    """The file of one process: another that opens the same database goes without, until this one has gone. Thread-safe."""

    def __init__(self, engine: Engine, mono_ns: Callable[[], int] = _AWAKE_OR_NOT_NS) -> None:
        self._engine = engine
        self._mono_ns = mono_ns
        self._path = Path(os.path.realpath(str(engine.url.database)) + SUFFIX) if engine.dialect.name == "sqlite" else None
        self._lock = threading.Lock()
        self._map: mmap.mmap | None = None
        self._descriptor = -1
        self._leased_until_ns = 0
        self._lapsed = False
        self._alone = False
        self._half, self._other = _Half(begins=0), _Half(begins=HALF_BYTES)

    def open(self) -> None:
        """Takes the file over where no other process has it, and stores what its last owner left. Does nothing where it is open.

        Raises:
            SQLAlchemyError: the database could not be used.
        """
        with self._lock:
            if self._path is None or self._map is not None:
                return
            try:
                self._take(self._path)
                # Before the file may grow: its length tells where its second half begins.
                newest = _store_left(self._engine, self._path.read_bytes())
                self._map = self._mapped()
            except OSError as error:  # also the lock of another process: all that is lost is time
                logger.info("text waits for a commit before it is shown: %s", error)
                self._let_go()
                return
            except BaseException:
                self._let_go()
                raise
            self._half.begin(newest + 1)
            self._other.begin(newest + 1)

    @property
    def is_open(self) -> bool:
        """Whether this process has the file."""
        return self._map is not None

    def read(self) -> dict[str, dict[int, bytes]]:
        """What the file holds, by turn and sequence number: also where another process owns it, which may stand still with its lease run out."""
        try:
            return {} if self._path is None else _by_turn(_read_records(self._path.read_bytes()))
        except OSError as error:
            logger.warning("what was shown and perhaps not stored could not be read: %s", error)
            return {}

    def lease(self, seconds: float, *, alone: bool) -> None:
        """Nobody else closes our turns for so long; `alone` where nobody else is there to be asked for them. Else nothing is shown that is not stored.

        Once a lease has run out before it was renewed, our turns may have been closed meanwhile: then this process goes without for good.
        """
        now_ns = self._mono_ns()
        if self._leased_until_ns and now_ns >= self._leased_until_ns and not self._lapsed:
            self._lapsed = True
            logger.warning("the lease had run out: from now on text waits for a commit before it is shown")
        self._leased_until_ns, self._alone = now_ns + round(seconds * 1e9), alone

    def _take(self, path: Path) -> None:
        mode = Path(str(path).removesuffix(SUFFIX)).stat().st_mode & 0o777  # who may use the database may use this
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _mapped(self) -> mmap.mmap:
        if not hasattr(os, "posix_fallocate"):
            raise OSError("this system cannot promise a file its place on the disk")
        # A page without a place on the disk would kill who writes to it.
        os.posix_fallocate(self._descriptor, 0, 2 * HALF_BYTES)
        mapped = mmap.mmap(self._descriptor, 2 * HALF_BYTES)
        for at in range(0, len(mapped), _PAGE_BYTES):
            mapped[at] = mapped[at]  # the first write to a page may wait for the disk: now, and not with a person's text
        return mapped

    def show(self, log: TurnLog) -> bool:
        """Keeps what was appended to a log and not shown, and shows it; false where it has to wait for the writer."""
        now_ns = self._mono_ns()
        with self._lock:
            if self._map is None or self._lapsed or not self._alone:
                return False
            newest = self._half.newest.get(log.turn_id)
            if now_ns >= self._leased_until_ns or (newest is not None and now_ns - newest.at_ns < SPACING_NS):
                return False
            piece = log.unshown()
            if piece is None:
                return False
            record = _ENCODE(KeptFrames(log.turn_id, piece.first_seq, piece.frames))
            size = _HEAD.size + len(record)
            if not self._has_room(size):
                return False
            half = self._half
            self._map[half.end : half.end + size] = _HEAD.pack(half.round, len(record), _sum(half.round, record)) + record
            half.end += size
            if (
                half.newest.get(log.turn_id) is not newest or newest is None
            ):  # the first here: the half has changed, or the turn is new
                newest = half.newest[log.turn_id] = _Newest(ref(log))
            newest.seq, newest.at_ns = piece.last_seq, now_ns
        log.show(piece)
        return True

    def _has_room(self, size: int) -> bool:
        """Whether a record fits, perhaps into the other half, once the database has what is there."""
        if self._half.end + size <= self._half.begins + HALF_BYTES:
            return True
        if size > HALF_BYTES or not self._other.is_stored():
            return False
        self._other.begin(self._half.round + 1)
        self._half, self._other = self._other, self._half
        return True

    def close(self) -> None:
        """Lets the file go. What it holds and the database has not is stored by the next that takes it."""
        with self._lock:
            if self._map is not None:
                self._map.close()
            self._let_go()

    def _let_go(self) -> None:
        self._map = None
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _store_left(engine: Engine, kept: bytes) -> int:
    """Stores what the last process kept and the database has not; the number of the newest round."""
    records = _read_records(kept)
    with engine.begin() as connection:
        found = (_missing(connection, turn_id, frames) for turn_id, frames in _by_turn(records).items())
        rows = [row for row in found if row is not None]
        if rows:
            connection.execute(INSERT_FRAMES, rows)
            logger.warning(
                "frames of %d turns that a process had shown and not stored were found beside the database", len(rows)
            )
    return records[-1][0] if records else int.from_bytes(os.urandom(4), "little")


def _read_records(kept: bytes) -> list[tuple[int, KeptFrames]]:
    """The records of both halves, the older round first. A file of another version may have halves of another length."""
    middle = len(kept) // 2
    halves = (_records(half) for half in (kept[:middle], kept[middle:]))
    return sorted((one for half in halves for one in half), key=lambda one: one[0])


def _by_turn(records: list[tuple[int, KeptFrames]]) -> dict[str, dict[int, bytes]]:
    turns: dict[str, dict[int, bytes]] = {}
    for _, record in records:
        for seq, frame in enumerate(record.frames.split(b"\n\n")[:-1], record.first_seq):  # frames hold no blank line
            turns.setdefault(record.turn_id, {})[seq] = frame + b"\n\n"
    return turns


def continued(last_seq: int, kept: Mapping[int, bytes]) -> tuple[int, bytes]:
    """The frames that follow a stored one without a gap, joined, and the sequence number of the last."""
    last = last_seq
    while last + 1 in kept:
        last += 1
    return last, b"".join(kept[seq] for seq in range(last_seq + 1, last + 1))


def _missing(connection: Connection, turn_id: str, frames: dict[int, bytes]) -> dict[str, object] | None:
    """The row of an open turn's frames behind those that are stored, without a gap."""
    is_open = select(TurnRow.turn_id).where(TurnRow.turn_id == turn_id, TurnRow.state == "open")
    if connection.scalar(is_open) is None:
        return None
    stored = connection.scalar(select(func.max(TurnFramesRow.last_seq)).where(TurnFramesRow.turn_id == turn_id)) or 0
    last, joined = continued(stored, frames)
    if last == stored:
        return None
    return {"turn_id": turn_id, "first_seq": stored + 1, "last_seq": last, "frames": joined}


def _records(data: bytes) -> Iterator[tuple[int, KeptFrames]]:
    """The records of a half's newest round, each with the round's number. Ends at the first that is older, torn or not there."""
    at, first = 0, None
    while at + _HEAD.size <= len(data):
        number, length, check = _HEAD.unpack_from(data, at)
        record = data[at + _HEAD.size : at + _HEAD.size + length]
        if length == 0 or number != (first or number) or len(record) != length or _sum(number, record) != check:
            return
        first = number
        yield number, msgspec.msgpack.decode(record, type=KeptFrames)
        at += _HEAD.size + length


def _sum(number: int, record: bytes) -> int:
    return zlib.crc32(record, number & 0xFFFFFFFF)
