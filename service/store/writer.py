"""The one way into the database: every write of the process goes through here, many in one commit.

A write costs a commit whatever its size, and SQLite takes one writer at a time; so writes wait together for the next commit. Two kinds: jobs (a function of
a connection, whose caller waits for its result and, as a rule, for the disk) and frames of running turns (nobody waits; the log shows them once they are
stored, and their commit waits for no disk unless a job shares it). Knows no turn, no HTTP. Invariants: a job's effects stand or fall alone; frames of a
log are stored in order; a log is published only as far as it is stored, or as far as the database has refused to store for `GIVE_UP_S`.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from itertools import takewhile
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from service.log import TurnLog, Unsaved, publish_all
from service.store.engine import FAST
from service.store.models import TurnRow
from service.store.statements import INSERT_FRAMES, MAX_FRAMES_ROWS, insert_open_frames_sqlite

logger = logging.getLogger(__name__)

MAX_JOBS = 4096
"""Jobs that may wait; who comes then waits for a place."""
BATCH_JOBS = 128
"""Jobs in one commit."""
PAUSE_S = 0.004
"""Between two commits of frames alone: more wait together where more come. The first of a turn do not wait: they are what people wait for."""
LEISURE_S = 0.5
"""How long frames that are shown already, and kept elsewhere, are left to gather."""
COMPANY_S = 0.05
"""So much sooner they are stored with those whose time has come: a few often hold up nobody, all of a hundred turns at once would."""
GIVE_UP_S = 2.0
"""How long frames are held back from viewers while the database does not take them."""

T = TypeVar("T")
Job = Callable[[Connection], T]


class Writer(Protocol):
    """Runs jobs and stores frames."""

    def run(self, job: Job[T], *, fast: bool = False) -> T:
        """Runs a job in a transaction and waits for its commit; raises what it raised. `fast` need not survive a power cut."""
        ...

    def save(self, log: TurnLog, *, fast: bool = True, shown: bool = False) -> None:
        """Something was appended to this log: it is stored, and then published. Where it is `shown` already, nobody waits for it."""
        ...

    def close(self) -> None:
        """Writes what waits and ends."""
        ...


class InlineWriter:
    """Writes at once, in the calling thread: for commands and tests."""

    def __init__(self, engine: Engine) -> None:
        self._engines = {False: engine, True: engine.execution_options(**FAST)}
        self._lock = threading.RLock()

    def run(self, job: Job[T], *, fast: bool = False) -> T:
        """Runs a job in a transaction of its own."""
        with self._lock, self._engines[fast].begin() as connection:
            return job(connection)

    def save(self, log: TurnLog, *, fast: bool = True, shown: bool = False) -> None:
        """Stores and publishes."""
        unsaved = log.unsaved()
        if unsaved is not None:
            lost = self.run(lambda connection: store_frames(connection, [(log, unsaved)]), fast=fast)
            log.close() if lost else log.publish(unsaved.last_seq)

    def close(self) -> None:
        """Nothing waits."""


def store_frames(connection: Connection, pieces: list[tuple[TurnLog, Unsaved]]) -> set[str]:
    """Stores frames of running turns; the turns that are not open any more, of which nothing was stored: another instance has closed them."""
    if connection.dialect.name == "sqlite":
        stored = 0
        for at in range(0, len(pieces), MAX_FRAMES_ROWS):
            some = pieces[at : at + MAX_FRAMES_ROWS]
            values = tuple(
                value for log, piece in some for value in (log.turn_id, piece.first_seq, piece.last_seq, piece.frames)
            )
            stored += connection.exec_driver_sql(insert_open_frames_sqlite(len(some)), values).rowcount
        return set() if stored == len(pieces) else {log.turn_id for log, _ in pieces} - _open_turns(connection, pieces)
    known = _open_turns(connection, pieces, locked=True)  # a recovery elsewhere waits for us, or we for it
    stored_rows = [
        {"turn_id": log.turn_id, "first_seq": piece.first_seq, "last_seq": piece.last_seq, "frames": piece.frames}
        for log, piece in pieces
        if log.turn_id in known
    ]
    if stored_rows:
        connection.execute(INSERT_FRAMES, stored_rows)
    return {log.turn_id for log, _ in pieces} - known


def _open_turns(connection: Connection, pieces: list[tuple[TurnLog, Unsaved]], *, locked: bool = False) -> set[str]:
    wanted = select(TurnRow.turn_id).where(TurnRow.turn_id.in_([log.turn_id for log, _ in pieces]), TurnRow.state == "open")
    return set(connection.scalars(wanted.with_for_update(read=True) if locked else wanted))


class _Waiting:
    """A job in the queue."""

    __slots__ = ("error", "fast", "future", "job", "result")

    def __init__(self, job: Job[Any], *, fast: bool) -> None:
        self.job = job
        self.fast = fast
        self.future: Future[Any] = Future()
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class GroupWriter:
    """The writer thread. `notify` is called inside each transaction with the turns whose frames it stored, for other instances to hear."""

    def __init__(self, engine: Engine, notify: Callable[[Connection, list[str]], None] | None = None) -> None:
        self._engines = {False: engine, True: engine.execution_options(**FAST)}
        self._connections: dict[bool, Connection] = {}  # by whether their commits need not wait for the disk
        self._notify = notify
        lock = threading.Lock()
        self._work = threading.Condition(lock)  # there is something to do for the thread
        self._room = threading.Condition(lock)  # there is a place for a job
        self._jobs: deque[_Waiting] = deque()
        self._dirty: dict[TurnLog, bool] = {}  # and whether its commit need not wait for the disk
        self._eager: set[TurnLog] = set()  # of these, those whose first text somebody waits for
        self._shown: dict[TurnLog, float] = {}  # since when viewers have frames that the database has not, the oldest first
        self._gathered_s = 0.0  # when the last commit took all that somebody waited for, by the monotonic clock
        self._closing = False
        self._failing_since: float | None = None
        self.commits = 0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    # --- callers

    def run(self, job: Job[T], *, fast: bool = False) -> T:
        """Runs a job and waits for its commit.

        Raises:
            RuntimeError: the writer is closed.
        """
        waiting = _Waiting(job, fast=fast)
        with self._room:
            while len(self._jobs) >= MAX_JOBS and not self._closing:
                self._room.wait()
            if self._closing:
                raise RuntimeError("the database is closed")
            self._jobs.append(waiting)
            self._work.notify()
        result: T = waiting.future.result()
        return result

    def save(self, log: TurnLog, *, fast: bool = True, shown: bool = False) -> None:
        """Something was appended: it is stored with the next commit, or, where nobody waits for it, within `LEISURE_S`. Never waits."""
        with self._work:  # the thread is woken where its next commit comes sooner by this, not by every piece of text
            if shown:
                if not self._shown:
                    self._work.notify()
                self._shown.setdefault(log, time.monotonic())
            elif log not in self._dirty or not fast:
                if log.silent:
                    self._eager.add(log)
                if self._eager or not self._dirty:
                    self._work.notify()
                self._dirty[log] = fast and self._dirty.get(log, True)

    def close(self) -> None:
        """Writes what waits and ends the thread."""
        with self._work:
            self._closing = True
            self._work.notify()
            self._room.notify_all()
        self._thread.join()

    # --- the thread

    def _run(self) -> None:
        while True:
            with self._work:
                while (wait_s := self._due_s() - time.monotonic()) > 0:
                    self._work.wait(None if wait_s == math.inf else wait_s)
                jobs = [self._jobs.popleft() for _ in range(min(len(self._jobs), BATCH_JOBS))]
                dirty = self._take(early=bool(self._eager) and not jobs and not self._closing)
                if not jobs and not dirty and self._closing:
                    for fast in (False, True):
                        self._forget_connection(fast=fast)
                    return
                self._room.notify_all()
            self._write(jobs, list(dirty), fast=all(job.fast for job in jobs) and all(dirty.values()))

    def _due_s(self) -> float:
        """Under the lock: when the next commit is due, by the monotonic clock."""
        if self._jobs or self._eager or self._closing:
            return 0.0
        if self._dirty:
            return self._gathered_s + PAUSE_S
        return next(iter(self._shown.values())) + LEISURE_S if self._shown else math.inf

    def _take(self, *, early: bool) -> dict[TurnLog, bool]:
        """Under the lock: the logs of the next commit; those only that wait for no others, where it comes `early`."""
        now = time.monotonic()
        if early and now < self._gathered_s + PAUSE_S:
            taken = {log: self._dirty.pop(log) for log in self._eager}
        else:
            taken, self._dirty, self._gathered_s = self._dirty, {}, now
            until = math.inf if self._closing else now - LEISURE_S + COMPANY_S
            late = list(takewhile(lambda log: self._shown[log] <= until, self._shown))
            for log in late:
                del self._shown[log]
                taken.setdefault(log, True)
        self._eager.clear()
        return taken

    def _write(self, jobs: list[_Waiting], logs: list[TurnLog], *, fast: bool) -> None:
        pieces = [(log, piece) for log in logs if (piece := log.unsaved()) is not None]
        if not jobs and not pieces:
            return
        try:
            connection = self._connection(fast=fast)
            with connection.begin():
                lost = store_frames(connection, pieces) if pieces else set()  # first: a job behind them may end their turn
                if pieces and self._notify is not None:
                    self._notify(connection, [log.turn_id for log, _ in pieces])
                for job in jobs:
                    _attempt(connection, job, alone=len(jobs) == 1 and not pieces)
        except Exception as error:  # noqa: BLE001 - the boundary of this thread: every waiting caller is told, and the thread goes on
            self._forget_connection(fast=fast)
            for job in jobs:
                job.error = job.error or error
                job.settle()
            self._not_stored(pieces, error, told=len(jobs) == 1 and jobs[0].error is error)
            return
        if connection.dialect.name != "sqlite":
            # Back to the pool, which looks whether the server is still there before it hands it out.
            self._forget_connection(fast=fast)
        self.commits += 1
        self._failing_since = None
        for log, _ in pieces:
            if log.turn_id in lost:
                logger.error("%s was closed by another instance", log.turn_id)
                log.close()
        publish_all((log, piece.last_seq) for log, piece in pieces if log.turn_id not in lost)
        for job in jobs:
            job.settle()

    def _connection(self, *, fast: bool) -> Connection:
        connection = self._connections.get(fast)
        if connection is None:
            connection = self._connections[fast] = self._engines[fast].connect()
        return connection

    def _forget_connection(self, *, fast: bool) -> None:
        """What broke a transaction may have broken its connection."""
        connection = self._connections.pop(fast, None)
        if connection is not None:
            with contextlib.suppress(SQLAlchemyError):
                connection.close()

    def _not_stored(self, pieces: list[tuple[TurnLog, Unsaved]], error: Exception, *, told: bool) -> None:
        """The database did not take the frames: they are tried again, and after a while shown all the same. A stream is worth more than its replay."""
        if not pieces:
            return
        now = time.monotonic()
        self._failing_since = self._failing_since or now
        if not told:
            logger.error("frames of %d turns could not be stored", len(pieces), exc_info=error)
        if now - self._failing_since > GIVE_UP_S:
            for log, piece in pieces:
                log.show(piece)
                if not self._closing:
                    self.save(log, shown=True)  # it is stored once the database takes it again
            return
        time.sleep(PAUSE_S * 10)
        for log, piece in pieces:
            self.save(log, fast=piece.first_seq > 1)


def _attempt(connection: Connection, job: _Waiting, *, alone: bool) -> None:
    """Runs one job; where it fails, its effects are undone and the others' stay. An error that ended the connection or the transaction ends the batch."""
    if alone:
        job.result = job.job(connection)
        return
    try:
        with connection.begin_nested():
            job.result = job.job(connection)
    except SQLAlchemyError as error:
        if getattr(error, "connection_invalidated", False) or _is_rolled_back(connection):
            raise
        job.error = error
    except Exception as error:  # noqa: BLE001 - the job's own failure is its caller's to handle
        job.error = error


def _is_rolled_back(connection: Connection) -> bool:
    """Whether SQLite has undone the whole transaction by itself, as it may where the disk is full: then nobody's job was done."""
    driver = connection.connection.driver_connection
    return connection.dialect.name == "sqlite" and driver is not None and not driver.in_transaction
