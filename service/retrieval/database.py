"""The index file: its schema, its one writer at a time, and a bounded pool of readers.

Owns connections. Must not know documents or queries. Invariant: a reader sees the state of the last commit, whatever a writer in this or another process is
doing; the file is a cache of the corpus, so one that an older version made is emptied, and a file that is something else is never touched.
"""

from __future__ import annotations

import sqlite3
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from service.retrieval.errors import IndexUnavailable

VERSION = 2
"""Raised where the schema or what the readers make of a file changes."""
MAX_READERS = 4
"""Connections that read at a time, over all threads."""
READER_WAIT_S = 10.0
WRITER_WAIT_S = 60.0
"""How long a refresh waits for another one, in this or another process, to end."""

_TABLES = ("meta", "files", "passages", "words")
_SCHEMA = """
create table meta (key text primary key, value text not null);
create table files (file_id integer primary key, path text not null unique, fingerprint text not null);
-- `url` has no fragment: it tells documents apart. `anchor` leads to the passage. `document` is the title of the whole.
create table passages (
    passage_id integer primary key, file_id integer not null, url text not null, anchor text not null,
    title text not null, document text not null, publisher text
);
create index ix_passages_file on passages (file_id);
create index ix_passages_url on passages (url);
create virtual table words using fts5 (title, document, text, tokenize = 'porter unicode61 remove_diacritics 2');
"""


@contextmanager
def writing(path: Path) -> Iterator[sqlite3.Connection]:
    """A transaction that alone may write: committed at the end, undone where anything is raised.

    Raises:
        IndexUnavailable: the file cannot be written, is no index, or another writer did not end in time.
    """
    with _opened(path) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        connection.execute("begin immediate")
        yield connection
        connection.execute("commit")


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IndexUnavailable(f"{path.parent} cannot be made: {error.strerror}") from error
    try:
        # Closing undoes what was not committed.
        with closing(sqlite3.connect(path, timeout=WRITER_WAIT_S, isolation_level=None)) as connection:
            yield connection
    except sqlite3.Error as error:
        raise IndexUnavailable(f"{path} cannot be used: {error}") from error


def prepare(path: Path) -> None:
    """Makes sure that the file is an index of this version; what another version made is emptied.

    Raises:
        IndexUnavailable: the file cannot be used, or is a database of something else.
    """
    with _opened(path) as connection:
        if _is_current(connection):
            return  # without a writer's lock: a refresh in progress keeps nobody from opening the index
        if not all(table in _TABLES or table.startswith(("words_", "sqlite_")) for table in _tables(connection)):
            raise IndexUnavailable(f"{path} is a database of something else; name another file for the index")
    with writing(path) as connection:
        if _is_current(connection):
            return  # another process was faster
        for table in _TABLES:
            connection.execute(f"drop table if exists {table}")
        for statement in _SCHEMA.split(";"):  # not `executescript`, which would end the transaction first
            connection.execute(statement)
        connection.execute(f"pragma user_version = {VERSION}")


def _is_current(connection: sqlite3.Connection) -> bool:
    version = connection.execute("pragma user_version").fetchone()[0]
    return version == VERSION and _tables(connection).issuperset(_TABLES)


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")}


class _Waiter:
    """A thread that waits for a place, and the place once it is given."""

    def __init__(self) -> None:
        self.served = threading.Event()
        self.connection: sqlite3.Connection | None = None


class ReaderPool:
    """At most `size` connections that read, opened when first needed. Thread-safe.

    A place that comes free goes to whoever has waited longest: with a plain semaphore the thread that has just let go takes it again before the one that
    was woken, and under load some searches wait ten times as long as others.
    """

    def __init__(self, path: Path, size: int = MAX_READERS) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._free_places = size
        self._idle: list[sqlite3.Connection] = []
        self._waiters: deque[_Waiter] = deque()
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection with one consistent view of the index.

        Raises:
            IndexUnavailable: the pool is closed, every connection stayed busy, or the file is damaged.
        """
        connection = self._take_place()
        try:
            if connection is None:
                # It is used by one thread at a time, though not always by the one that opened it.
                connection = sqlite3.connect(self._path, timeout=READER_WAIT_S, isolation_level=None, check_same_thread=False)
                connection.execute("pragma query_only = on")
            connection.execute("begin")
            yield connection
            connection.execute("rollback")
        except BaseException as error:
            if connection is not None:
                connection.close()  # in whatever state it is: the next reader gets a fresh one
            self._leave_place(None)
            if isinstance(error, sqlite3.Error):
                raise IndexUnavailable(f"{self._path} cannot be read: {error}") from error
            raise
        self._leave_place(connection)

    def _take_place(self) -> sqlite3.Connection | None:
        """Waits for a place; an idle connection, or None where one has to be opened."""
        with self._lock:
            if self._closed:
                raise IndexUnavailable(f"{self._path} is closed")
            if self._free_places:
                self._free_places -= 1
                return self._idle.pop() if self._idle else None
            waiter = _Waiter()
            self._waiters.append(waiter)
        waiter.served.wait(READER_WAIT_S)
        with self._lock:
            if waiter.served.is_set():
                return waiter.connection
            self._waiters.remove(waiter)
        raise IndexUnavailable(f"all readers of {self._path} were busy for {READER_WAIT_S:g} s")

    def _leave_place(self, connection: sqlite3.Connection | None) -> None:
        with self._lock:
            if self._waiters:
                waiter = self._waiters.popleft()
                waiter.connection = connection
                waiter.served.set()
                return
            self._free_places += 1
            if connection is None:
                return
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Closes what is idle now, and the rest as soon as its readers, and those that already wait, are done. Idempotent."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
