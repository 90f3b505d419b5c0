"""The deriver's thread: a while after a foreign root span was stored, its trace becomes a turn.

Owns the list of traces that wait. Works from stored spans alone, so a crash costs nothing: at the start, recent traces wait again, and the store keeps a turn once
however often it is made. Bounded: beyond `max_traces` the oldest that waits is let go, which is counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from collector.derive.turn import SpanFacts, is_root, turn_of
from collector.store.batches import Batch, Row
from collector.store.hot import StoreError
from collector.store.rows import dicts
from collector.store.store import Store
from collector.store.tables import SPANS
from collector.writer import QueueFull, Rows

logger = logging.getLogger(__name__)

BATCH_TRACES = 500
"""Traces that one query reads."""
MAX_TRACE_SPANS = 10_000
"""Spans of one trace that are read; a turn of more is made of its first ones."""
LOOK_BACK_S = 3600
"""How far back the start looks for traces whose turn was not made before the end."""
_RETRY_S = 1.0

_FACTS = ", ".join(field for field in SpanFacts.__struct_fields__ if field not in {"start_ns", "remote_parent"})
_START = "epoch_us(started_at) * 1000 + start_rest_ns AS start_ns"
_LOAD = (
    f"SELECT trace_id, {_FACTS}, coalesce(remote_parent, false) AS remote_parent, {_START} FROM store.spans "
    "WHERE trace_id IN (SELECT unnest(?)) AND started_at BETWEEN make_timestamptz(?) AND make_timestamptz(?) AND pending IS NOT true "
    f"QUALIFY row_number() OVER (PARTITION BY trace_id ORDER BY started_at) <= {MAX_TRACE_SPANS}"
)
_RECORDED = (
    "SELECT trace_id FROM store.ended WHERE trace_id IN (SELECT unnest(?)) AND origin <> 'spans' "
    "AND started_at BETWEEN make_timestamptz(?) AND make_timestamptz(?) "
    "UNION ALL SELECT trace_id FROM store.accepted WHERE trace_id IN (SELECT unnest(?))"
)
_RECENT = (
    f"SELECT trace_id, parent_span_id, coalesce(remote_parent, false) AS remote_parent, turn_id, operation, pending, {_START}, duration_ns "
    "FROM store.spans WHERE started_at >= make_timestamptz(?) AND turn_id IS NULL AND (operation IS NOT NULL OR parent_span_id IS NULL OR remote_parent) "
    "ORDER BY started_at DESC LIMIT ?"
)
_NOTED = ["trace_id", "parent_span_id", "remote_parent", "turn_id", "operation", "pending", "start_ns", "duration_ns"]
_SLACK_NS = 600 * 1_000_000_000
"""Spans of a trace may begin before their root by so much, and their records so much away from it: clocks of machines differ, and work is handed over."""


_TURN = SPANS.names.index("turn_id")


class _Writer(Protocol):
    def submit(self, rows: Rows, done: Callable[[StoreError | None], None]) -> None: ...


class _Waiting(Struct):
    """A trace whose root is stored."""

    due_s: float
    first_ns: int
    last_ns: int


def _foreign(spans: Batch) -> Iterable[Row]:
    """Those spans that bear no turn of ours: mostly none."""
    if not isinstance(spans, pa.Table):
        if spans and isinstance(spans[0], tuple):
            return (dict(zip(SPANS.names, span, strict=True)) for span in spans if span[_TURN] is None)
        return (span for span in cast("Sequence[Row]", spans) if span["turn_id"] is None)
    if not spans["turn_id"].null_count:
        return []
    noted: list[Row] = spans.select(_NOTED).filter(pc.is_null(spans["turn_id"])).to_pylist()
    return noted


class Deriver:
    """Makes turns of foreign traces until it is closed. `stored` from any thread."""

    def __init__(
        self, store: Store, writer: _Writer, *, settle_ms: int, max_traces: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._writer = writer
        self._settle_s = settle_ms / 1000
        self._max_traces = max_traces
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, _Waiting] = OrderedDict()
        self._genai: OrderedDict[str, None] = OrderedDict()
        self._closing = False
        self.dropped = 0
        self.failures = 0
        self._look_back()
        self._thread = threading.Thread(target=self._run, name="deriver", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Traces whose turn is not made yet."""
        return len(self._waiting)

    def stored(self, spans: Batch) -> None:
        """Notes spans that were committed: foreign roots, and which traces call a model or a tool."""
        roots, genai = [], []
        for span in _foreign(spans):
            if not span.get("pending"):
                if span.get("operation"):
                    genai.append(span["trace_id"])
                if is_root(span):
                    roots.append((span["trace_id"], span["start_ns"], span["start_ns"] + span["duration_ns"]))
        if not roots and not genai:
            return
        with self._changed:
            for trace_id in genai:
                self._genai[trace_id] = None
                self._genai.move_to_end(trace_id)
            for trace_id, start_ns, end_ns in roots:
                self._wait(trace_id, start_ns, end_ns)
            while len(self._waiting) > self._max_traces:
                gone, _ = self._waiting.popitem(last=False)
                self.dropped += gone in self._genai
            while len(self._genai) > self._max_traces:
                self._genai.popitem(last=False)
            self._changed.notify()

    def _wait(self, trace_id: str, start_ns: int, end_ns: int) -> None:
        due_s = self._clock() + self._settle_s
        if (old := self._waiting.pop(trace_id, None)) is not None:
            start_ns, end_ns = min(start_ns, old.first_ns), max(end_ns, old.last_ns)
        self._waiting[trace_id] = _Waiting(due_s, start_ns, end_ns)

    def close(self) -> None:
        """Ends the thread. What waits is made at the next start, when its spans have come."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while due := self._next():
            try:
                self.derive(due)
            except (duckdb.Error, StoreError, QueueFull) as error:
                self.failures += 1
                logger.warning("turns of spans could not be made, and are tried again: %s", str(error) or type(error).__name__)
                with self._changed:
                    for trace_id, waiting in due.items():
                        waiting.due_s = self._clock() + _RETRY_S
                        self._waiting.setdefault(trace_id, waiting)
                        self._genai[trace_id] = None
                    self._changed.wait_for(lambda: self._closing, _RETRY_S)

    def _next(self) -> dict[str, _Waiting]:
        """The traces that are due, in the order of their roots; none at the end."""
        with self._changed:
            while not self._closing:
                due = self._take_due()
                if due:
                    return due
                soonest = next(iter(self._waiting.values()), None)
                self._changed.wait(None if soonest is None else max(0.0, soonest.due_s - self._clock()))
        return {}

    def _take_due(self) -> dict[str, _Waiting]:
        now = self._clock()
        due: dict[str, _Waiting] = {}
        while self._waiting and len(due) < BATCH_TRACES:
            trace_id, waiting = next(iter(self._waiting.items()))
            if waiting.due_s > now:
                break
            del self._waiting[trace_id]
            if trace_id in self._genai:
                del self._genai[trace_id]
                due[trace_id] = waiting
        return due

    def derive(self, due: dict[str, _Waiting]) -> None:
        """Makes the turns of these traces, and returns when they are stored.

        Raises:
            QueueFull: the writer is behind.
            StoreError: they could not be stored.
            duckdb.Error: they could not be read.
        """
        turns = [row for trace_id, spans in self._load(due).items() if (row := turn_of(trace_id, spans)) is not None]
        if not turns:
            return
        stored, answer = threading.Event(), []

        def done(error: StoreError | None) -> None:
            answer.append(error)
            stored.set()

        self._writer.submit(Rows(ended=turns), done)
        stored.wait()
        if answer[0] is not None:
            raise answer[0]

    def _load(self, due: dict[str, _Waiting]) -> dict[str, list[SpanFacts]]:
        """The spans of traces, without the traces of turns that have a record."""
        ids = list(due)
        low_us = (min(one.first_ns for one in due.values()) - _SLACK_NS) // 1000
        high_us = (max(one.last_ns for one in due.values()) + _SLACK_NS) // 1000
        with self._store.reading() as reader:
            recorded = {row[0] for row in reader.execute(_RECORDED, [ids, low_us, high_us, ids]).fetchall()}
            rows = dicts(reader.execute(_LOAD, [ids, low_us, high_us]))
        found: dict[str, list[SpanFacts]] = {}
        for row in rows:
            trace_id = row.pop("trace_id")
            if trace_id not in recorded:
                found.setdefault(trace_id, []).append(SpanFacts(**row))
        return found

    def _look_back(self) -> None:
        """Lets recent traces wait again: the process may have ended before their turns were made."""
        since_us = int((time.time() - LOOK_BACK_S) * 1e6)
        with self._store.reading() as reader:
            self.stored(dicts(reader.execute(_RECENT, [since_us, 2 * self._max_traces])))
