"""The one writer thread: requests wait together for the next commit.

Owns the queue. A request's rows are handed in whole; its callback is called after the commit that holds them, or with the error that kept them out. Bounded in
rows: beyond the bound a request is refused at once, and its sender tries again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import pyarrow as pa
from msgspec import Struct

from collector.store.store import Appended, Store, StoreError
from collector.store.tables import ACCEPTED, CONTENT, ENDED, SPANS

logger = logging.getLogger(__name__)

Row = dict[str, Any]
_SCHEMAS = {"spans": SPANS, "accepted": ACCEPTED, "ended": ENDED, "content": CONTENT}
_IDENTITY: dict[str, Callable[[Row], object]] = {
    "spans": lambda row: (row["trace_id"], row["span_id"]),
    "accepted": lambda row: row["turn_id"],
    "ended": lambda row: row["turn_id"],
    "content": lambda row: row["turn_id"],
}


class QueueFull(Exception):
    """The writer is behind: the request is to be answered 503."""


class Rows(Struct, kw_only=True):
    """The rows of one request, by table."""

    spans: list[Row] = []
    accepted: list[Row] = []
    ended: list[Row] = []
    content: list[Row] = []

    def __len__(self) -> int:
        return len(self.spans) + len(self.accepted) + len(self.ended) + len(self.content)


Done = Callable[[StoreError | None], None]
Observe = Callable[[Appended, float], None]


class Writer:
    """Commits rows in groups. `submit` from any thread; callbacks run in the writer's thread and must be quick."""

    def __init__(self, store: Store, *, queue_rows: int, commit_rows: int, commit_wait_ms: int, observe: Observe) -> None:
        self._store = store
        self._queue_rows = queue_rows
        self._commit_rows = commit_rows
        self._commit_wait_s = commit_wait_ms / 1000
        self._observe = observe
        self._changed = threading.Condition()
        self._queue: deque[tuple[Rows, Done]] = deque()
        self._waiting_rows = 0
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._thread.start()

    @property
    def waiting_rows(self) -> int:
        """Rows that are not committed yet."""
        return self._waiting_rows

    def submit(self, rows: Rows, done: Done) -> None:
        """Hands in the rows of one request.

        Raises:
            QueueFull: too many rows wait, or the writer is closing.
        """
        with self._changed:
            if self._closing or (self._waiting_rows and self._waiting_rows + len(rows) > self._queue_rows):
                raise QueueFull
            self._queue.append((rows, done))
            self._waiting_rows += len(rows)
            self._changed.notify()

    def close(self) -> None:
        """Commits what waits, and ends."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            error: StoreError | None = None
            try:
                self._commit([rows for rows, _ in group])
            except StoreError as failure:
                logger.error("a commit failed: %s", failure)  # noqa: TRY400 - the engine's message says it all
                error = failure
            except Exception as failure:  # the boundary of this thread: senders are told, and may try again
                logger.exception("a commit failed")
                error = StoreError(type(failure).__name__)
            with self._changed:
                self._waiting_rows -= sum(len(rows) for rows, _ in group)
            for _, done in group:
                done(error)

    def _next_group(self) -> list[tuple[Rows, Done]]:
        """The requests of the next commit; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closing)
            if not self._closing:
                end = time.monotonic() + self._commit_wait_s
                self._changed.wait_for(
                    lambda: self._closing or self._waiting_rows >= self._commit_rows, max(0.0, end - time.monotonic())
                )
            group: list[tuple[Rows, Done]] = []
            rows = 0
            while self._queue and (not group or rows + len(self._queue[0][0]) <= self._commit_rows):
                group.append(self._queue.popleft())
                rows += len(group[-1][0])
            return group

    def _commit(self, requests: list[Rows]) -> None:
        start = time.monotonic()
        tables: dict[str, pa.Table] = {}
        inside: dict[str, int] = {}
        for name, schema in _SCHEMAS.items():
            every = [row for rows in requests for row in getattr(rows, name)]
            unique: dict[object, Row] = {}
            for row in every:
                unique.setdefault(_IDENTITY[name](row), row)  # the first of a group stays, as between groups
            inside[name] = len(every) - len(unique)
            if unique:
                tables[name] = pa.Table.from_pylist(list(unique.values()), schema=schema)
        appended = self._store.append(tables)
        duplicates = {name: appended.duplicates.get(name, 0) + inside[name] for name in inside}
        self._observe(Appended(appended.stored, duplicates), time.monotonic() - start)
