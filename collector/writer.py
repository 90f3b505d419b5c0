"""The one writer thread: requests wait together for the next commit, and whoever else has to write takes a turn between two commits.

Owns the queue. A request's rows are handed in whole; its callback is called after the commit that holds them, or with the error that kept them out. Bounded in
rows: beyond the bound a request is refused at once, and its sender tries again.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

import pyarrow as pa
from msgspec import Struct

from collector.store.append import Appended
from collector.store.batches import Batch, Row, table_of
from collector.store.hot import StoreError
from collector.store.store import Store
from collector.store.tables import ACCEPTED, CONTENT, ENDED, SPANS

logger = logging.getLogger(__name__)

T = TypeVar("T")
BUSY_SHARE = 0.25
LATELY_S = 1.0
_SCHEMAS = {"spans": SPANS, "accepted": ACCEPTED, "ended": ENDED, "content": CONTENT}


class QueueFull(Exception):
    """The writer is behind: the request is to be answered 503."""


class Rows(Struct, kw_only=True):
    """The rows of one request, by table."""

    spans: Batch = []
    accepted: list[Row] = []
    ended: list[Row] = []
    content: list[Row] = []

    def __len__(self) -> int:
        return len(self.spans) + len(self.accepted) + len(self.ended) + len(self.content)


Done = Callable[[StoreError | None], None]
Observe = Callable[[Appended | None, float], None]
"""Called after every commit with what it did, or with none where it failed, and with its length in seconds."""


class Writer:
    """Commits rows in groups. `submit` and `call` from any thread; callbacks run in the writer's thread and must be quick."""

    def __init__(
        self, store: Store, *, queue_rows: int, commit_rows: int, commit_wait_ms: int, hot_rows: int, observe: Observe
    ) -> None:
        self._store = store
        self._queue_rows = queue_rows
        self._commit_rows = commit_rows
        self._commit_wait_s = commit_wait_ms / 1000
        self._hot_rows = hot_rows
        self._observe = observe
        self._changed = threading.Condition()
        self._queue: deque[tuple[Rows, Done]] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._waiting_rows = 0
        self._closing = False
        self._committed = (time.monotonic(), 0.0)
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether rows come in about as fast as they can be stored."""
        return self._share(time.monotonic()) > BUSY_SHARE

    def _share(self, now: float) -> float:
        """The share of the last seconds in which a commit ran; what is longer ago counts for less."""
        at, share = self._committed
        return share * math.exp((at - now) / LATELY_S)

    @property
    def waiting_rows(self) -> int:
        """Rows that are not committed yet."""
        return self._waiting_rows

    def submit(self, rows: Rows, done: Done) -> None:
        """Hands in the rows of one request.

        Raises:
            QueueFull: too many rows wait for a commit or for their publication, or the writer is closing.
        """
        with self._changed:
            full = self._waiting_rows and self._waiting_rows + len(rows) > self._queue_rows
            if self._closing or full or self._store.hot_rows > self._hot_rows:
                raise QueueFull
            self._queue.append((rows, done))
            self._waiting_rows += len(rows)
            self._changed.notify()

    def call(self, work: Callable[[], T]) -> T:
        """Runs something in the writer's thread, between two commits, and returns what it returns. It must be quick: commits wait for it.

        Raises:
            StoreError: the writer has ended.
            Exception: whatever the work raises.
        """
        future: Future[T] = Future()

        def run() -> None:
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001 - raised where it was called
                future.set_exception(error)

        with self._changed:
            if self._closing:
                raise StoreError("the writer has ended")
            self._calls.append(run)
            self._changed.notify()
        return future.result()

    def close(self) -> None:
        """Commits what waits, and ends."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            calls, group = self._next()
            for call in calls:
                call()
            if group:
                self._answer(group)
            elif not calls:
                return

    def _answer(self, group: list[tuple[Rows, Done]]) -> None:
        """Commits a group and tells its senders."""
        error: StoreError | None = None
        start = time.monotonic()
        appended: Appended | None = None
        try:
            appended = self._commit([rows for rows, _ in group])
        except StoreError as failure:
            logger.error("a commit failed: %s", failure)  # noqa: TRY400 - the engine's message says it all
            error = failure
        except Exception as failure:  # the boundary of this thread: senders are told, and may try again
            logger.exception("a commit failed")
            error = StoreError(type(failure).__name__)
        with self._changed:
            self._waiting_rows -= sum(len(rows) for rows, _ in group)
        end = time.monotonic()
        self._committed = (end, self._share(end) + (end - start) / LATELY_S)
        self._observe(appended, end - start)
        for _, done in group:
            done(error)

    def _next(self) -> tuple[list[Callable[[], None]], list[tuple[Rows, Done]]]:
        """What is to be run before the next commit, and the requests of that commit; both empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._calls or self._closing)
            if not self._closing and not self._calls:
                end = time.monotonic() + self._commit_wait_s
                self._changed.wait_for(
                    lambda: self._closing or self._calls or self._waiting_rows >= self._commit_rows,
                    max(0.0, end - time.monotonic()),
                )
            calls = list(self._calls)
            self._calls.clear()
            group: list[tuple[Rows, Done]] = []
            rows = 0
            while self._queue and (not group or rows + len(self._queue[0][0]) <= self._commit_rows):
                group.append(self._queue.popleft())
                rows += len(group[-1][0])
            return calls, group

    def _commit(self, requests: list[Rows]) -> Appended:
        tables: dict[str, pa.Table] = {}
        for name, schema in _SCHEMAS.items():
            batches: list[Batch] = [batch for rows in requests if len(batch := getattr(rows, name))]
            parts = [batch for batch in batches if isinstance(batch, pa.Table)]
            loose = [row for batch in batches if not isinstance(batch, pa.Table) for row in batch]
            if loose:
                parts.append(table_of(loose, schema))
            if parts:
                tables[name] = pa.concat_tables(parts).combine_chunks()  # the engine reads each chunk as a task of its own
        return self._store.append(tables)
