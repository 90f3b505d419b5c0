"""The engine on the hot file: one connection that writes, cursors that read, checkpoints, and a new beginning where the engine has given the file up.

It gives a file up where a sync or a checkpoint fails, on a full disk for one: every statement fails from then on, until the file is opened anew. What was committed is in
the log beside the file. Owns the connection and knows nothing of what is stored.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from weakref import WeakSet

import duckdb

logger = logging.getLogger(__name__)

T = TypeVar("T")
Config = dict[str, str | bool | int | float | list[str]]

CHECKPOINT_BYTES = 8 * 1024 * 1024
"""A log longer than this is taken into the file when a generation was published, and the file is small."""
CHECKPOINT_AGAIN_S = 60
READERS_END_S = 2.0


class StoreError(Exception):
    """The store cannot be opened or written. The message says why, for the operator."""


class StoreInUse(StoreError):
    """Another process holds the file."""


class HotFile:
    """One file. `cursor` from any thread, all else from the one that writes.

    `set_up` is called with the connection whenever the file was opened, before anybody reads. It may raise `duckdb.Error`, `OSError` and `StoreError`.
    """

    def __init__(self, path: Path, config: Config, set_up: Callable[[duckdb.DuckDBPyConnection], None]) -> None:
        self.path = path
        self._config = config
        self._set_up = set_up
        self._lock = threading.Lock()
        self._readers: WeakSet[duckdb.DuckDBPyConnection] = WeakSet()
        self._given_up = False
        self._futile_room, self._futile_until = 0, 0.0
        self.checkpoint_failures = 0
        self._open()
        self.checkpoint(0)

    def _open(self) -> None:
        try:
            self.connection = duckdb.connect(str(self.path), config=self._config)
        except duckdb.Error as error:
            if "lock" in str(error).lower():
                raise StoreInUse(f"{self.path} is in use by another collector") from error
            raise StoreError(f"{self.path} cannot be opened: {error}") from error
        try:
            self._set_up(self.connection)
        except BaseException as error:
            self.connection.close()  # nobody reads before everything is set
            if isinstance(error, (duckdb.Error, OSError)):
                raise StoreError(f"{self.path} cannot be read: {error}") from error
            raise
        self._given_up = False

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own onto the same database, for a reader. It fails, interrupted, where the file has to be opened anew."""
        with self._lock:
            cursor = self.connection.cursor()
            self._readers.add(cursor)
        return cursor

    # --- writing

    def transaction(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Runs statements in one transaction, durable when this returns.

        Raises:
            StoreError: nothing has changed.
        """
        self._mend()
        try:
            self.connection.begin()
            result = work(self.connection)
            self.connection.commit()
        except duckdb.Error as error:
            self._given_up = isinstance(error, duckdb.FatalException)
            with contextlib.suppress(duckdb.Error):  # the failure may have ended the transaction already
                self.connection.rollback()
            raise StoreError(str(error)) from error
        except BaseException:
            self.connection.rollback()
            raise
        return result

    def checkpoint(self, longer_than: int = CHECKPOINT_BYTES) -> None:
        """Takes the log into the file where it is longer than so many bytes, and no reader is in the way.

        A failure is counted, and costs readers the file for a moment; nothing is lost, because the log stays as it is. It is tried again when the disk has much more room, or a
        minute is over.

        Raises:
            StoreError: the file could not be opened anew.
            OSError: the disk does not say what it holds.
        """
        log = self.path.with_name(self.path.name + ".wal")
        if not log.exists() or log.stat().st_size <= longer_than:
            return
        room, now = shutil.disk_usage(self.path.parent).free, time.monotonic()
        if now < self._futile_until and room < self._futile_room + CHECKPOINT_BYTES:
            return
        try:
            self.connection.execute("CHECKPOINT")
        except duckdb.TransactionException:
            pass  # a reader: the next time will do
        except duckdb.Error as error:
            logger.error("the log stays beside %s: %s", self.path.name, error)  # noqa: TRY400 - the engine's message says it all
            self.checkpoint_failures += 1
            self._futile_room, self._futile_until = room, now + CHECKPOINT_AGAIN_S
            self.look_after()

    # --- a new beginning

    def look_after(self) -> None:
        """Opens the file anew where the engine has given it up, which a reader's statement can cause as well. To be called also where nothing is written.

        Raises:
            StoreError: the file cannot be opened.
        """
        try:
            self.connection.execute("SELECT 1")
        except duckdb.Error:
            self._given_up = True
        self._mend()

    def _mend(self) -> None:
        """Without a checkpoint, which a full disk would forbid: what is stored can be read."""
        if not self._given_up:
            return
        with self._lock:
            self._interrupt_readers()
            self.connection.close()
            self._open()

    def _interrupt_readers(self) -> None:
        """The engine lets go of a file only when nobody reads from it, and a query may take as long as it likes.

        All of them, again and again: the engine forgets an interruption that comes before a query has begun to run.
        """
        end = time.monotonic() + READERS_END_S
        while sum(_interrupted(reader) for reader in self._readers) and time.monotonic() < end:
            time.sleep(READERS_END_S / 100)

    def close(self) -> None:
        """Takes the log into the file and closes it."""
        try:
            self.checkpoint(0)
        finally:
            self.connection.close()


def _interrupted(reader: duckdb.DuckDBPyConnection) -> bool:
    """Interrupts what a reader runs; whether it is still open."""
    try:
        reader.interrupt()
    except duckdb.Error:
        return False
    return True
