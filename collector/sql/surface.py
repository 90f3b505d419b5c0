"""Runs one read-only query and streams its result.

Read-only is enforced by the engine: the query runs in a READ ONLY transaction of a database whose access to files is off and whose configuration is locked. The kind
of statement is checked too, for a clear message and because some statements change only their own session. Owns its threads, so that slow queries never stand in
the way of receiving; bounded in concurrency, waiting, rows and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, timedelta
from datetime import time as time_of_day
from itertools import pairwise
from typing import Any, Literal
from uuid import UUID

import duckdb
import msgspec
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from msgspec import Struct

from collector.sql.turns import Busy, Turns
from collector.store.store import Store, Times

Format = Literal["arrow", "json", "csv", "parquet"]
BATCH_ROWS = 2048
INTERRUPT_S = 0.05
_FILE_FUNCTIONS = frozenset({"glob", "sniff_csv", "arrow_scan", "pandas_scan", "seq_scan"})
LOST_FILE = (duckdb.ConnectionException, duckdb.FatalException, duckdb.InterruptException)
"""What a reader of the store meets when the engine gives its file up, and when it is opened anew: see `HotFile`."""
_LOST = ("INTERRUPT Error", "FATAL Error", "Connection Error", "Invalid Input Error: No open result set")
"""How these begin in words; while rows come, they are Arrow's."""
MEDIA_TYPES: dict[Format, str] = {
    "arrow": "application/vnd.apache.arrow.stream",
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
}


class QueryError(Exception):
    """A query was refused or failed. `status` is the HTTP status that says so."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail


class Query(Struct, frozen=True, kw_only=True, rename="camel"):
    """Body of `POST /v1/sql`. `params` are positional (a list) or by name (an object). Files that hold nothing from `since` to `until` are left unread."""

    sql: str
    params: list[Any] | dict[str, Any] = []
    format: Format = "json"
    max_rows: int = 10_000
    timeout_ms: int = 10_000
    since: datetime | None = None
    until: datetime | None = None


class Result(Struct, frozen=True):
    """A whole result in its format; `truncated` where rows were left out."""

    body: bytes
    rows: int
    truncated: bool


class SqlSurface:
    """Queries of many callers, a few at a time; fewer where `storing` says that rows come in about as fast as they can be stored."""

    def __init__(
        self,
        store: Store,
        *,
        concurrency: int,
        waiting: int,
        max_rows: int,
        max_bytes: int,
        timeout_ms: int,
        storing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._turns = Turns(storing)
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="sql")
        self._places = threading.BoundedSemaphore(concurrency + waiting)
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._timeout_ms = timeout_ms

    async def run(self, query: Query) -> Result:
        """The result of a query.

        Raises:
            QueryError: 400 for what the engine does not understand, 403 for what is not a read, 408 at the time limit, 413 for a result that is too
                large, 503 when busy: too many wait, or for too long.
        """
        if not 1 <= query.timeout_ms <= self._timeout_ms:
            raise QueryError(400, "Bad Request", f"timeoutMs lies between 1 and {self._timeout_ms}")
        if not 1 <= query.max_rows <= self._max_rows:
            raise QueryError(400, "Bad Request", f"maxRows lies between 1 and {self._max_rows}")
        if not self._places.acquire(blocking=False):
            raise QueryError(503, "Service Unavailable", "Too many queries wait. Please try again shortly.")
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, self._run, query, self._turns.now())
        finally:
            self._places.release()

    def _run(self, query: Query, come: float) -> Result:
        try:
            with self._turns.turn(come), self._store.reading(Times(query.since, query.until)) as cursor:
                return run_on(cursor, query, max_bytes=self._max_bytes)
        except Busy:
            raise QueryError(
                503, "Service Unavailable", "So much is being stored that queries take turns. Please try again shortly."
            ) from None
        except LOST_FILE as error:
            raise opened_anew() from error

    def close(self) -> None:
        """Waits for the queries that run."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def run_on(connection: duckdb.DuckDBPyConnection, query: Query, *, max_bytes: int = 2**31) -> Result:
    """The result of a query on a connection that is in a read-only transaction.

    Raises:
        QueryError: 400 for what the engine does not understand, 403 for what is not a read, 408 at the time limit, 413 for a result that is too large, 503
            where the engine lost its file meanwhile.
    """
    check_statement(query.sql)
    late, done = threading.Event(), threading.Event()

    def watch() -> None:
        if done.wait(query.timeout_ms / 1000):
            return
        late.set()
        while True:  # again and again: the engine forgets an interruption that comes before a query has begun to run
            with contextlib.suppress(duckdb.ConnectionException):  # closed, because the file is opened anew
                connection.interrupt()
            if done.wait(INTERRUPT_S):
                return

    threading.Thread(target=watch, name="sql-limit", daemon=True).start()
    try:
        reader = connection.execute(query.sql, query.params or None).to_arrow_reader(BATCH_ROWS)
        return _WRITERS[query.format](reader, _Limits(query.max_rows, max_bytes))
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        # An OSError is how Arrow passes on the engine's errors while rows come.
        if late.is_set():
            raise QueryError(408, "Request Timeout", f"The query took longer than {query.timeout_ms} ms.") from error
        if str(error).startswith(_LOST):
            raise opened_anew() from error
        raise _query_error(error) from error
    finally:
        done.set()


def check_statement(sql: str) -> None:
    """Refuses what is not one statement that reads.

    Raises:
        QueryError: why.
    """
    try:
        statements = duckdb.extract_statements(sql)
        if len(statements) != 1:
            raise QueryError(400, "Bad Request", f"One statement is expected; there are {len(statements)}.")
        words = _words(sql)
        kind = _explained(sql, words) if statements[0].type == duckdb.StatementType.EXPLAIN else statements[0].type
    except duckdb.Error as error:
        raise _query_error(error) from error
    if kind != duckdb.StatementType.SELECT:
        raise QueryError(403, "Forbidden", f"Only queries are allowed here, not {kind.name}.")
    # The engine keeps queries from every file but the store's own; those are read through tables and views.
    for (_, word), (_, following) in pairwise(words):
        if following == "(" and (word in _FILE_FUNCTIONS or word.startswith(("read_", "parquet_"))):
            raise QueryError(403, "Forbidden", f"{word} reads files, and a query may only read tables and views.")


def _words(sql: str) -> list[tuple[int, str]]:
    """The words of a statement with where they start, in lower case and without quotes; comments are none."""
    starts = [start for start, _ in duckdb.tokenize(sql)]
    ends = [*starts[1:], len(sql)]
    return [(start, sql[start:end].split(maxsplit=1)[0].lower().strip('"')) for start, end in zip(starts, ends, strict=True)]


def _explained(sql: str, starts_and_words: list[tuple[int, str]]) -> duckdb.StatementType:
    """The kind of the statement behind EXPLAIN. EXPLAIN ANALYZE runs it, and a COPY into the folder of segments is one that the engine would let pass."""
    starts, words = [start for start, _ in starts_and_words], [word for _, word in starts_and_words]
    place = 1
    if words[place] in {"analyze", "analyse"}:
        place += 1
    if words[place] == "(":
        depth = 0
        for end in range(place, len(words)):
            depth += (words[end] == "(") - (words[end] == ")")
            if depth == 0:
                break
        # Options in parentheses stand before a statement; a query in parentheses stands alone.
        place = end + 1 if end + 1 < len(words) else place
    inner = duckdb.extract_statements(sql[starts[place] :])
    return inner[0].type if len(inner) == 1 else duckdb.StatementType.INVALID


def opened_anew() -> QueryError:
    """What a reader is told whose file was taken from it."""
    return QueryError(503, "Service Unavailable", "The store is being opened anew. Please try again shortly.")


def _query_error(error: Exception) -> QueryError:
    forbidden = isinstance(error, duckdb.PermissionException) or "read-only" in str(error)
    title = "Forbidden" if forbidden else "Bad Request"
    return QueryError(403 if forbidden else 400, title, str(error))


class _Limits(Struct, frozen=True):
    """How much of a result is given."""

    rows: int
    bytes: int


def _batches(reader: pa.RecordBatchReader, limits: _Limits) -> Iterator[tuple[pa.RecordBatch, bool]]:
    """Batches of at most so many rows in all, each with whether rows were left out behind it."""
    left, size = limits.rows, 0
    for batch in reader:
        size += batch.nbytes
        if size > limits.bytes:
            raise QueryError(
                413, "Content Too Large", f"The result is larger than {limits.bytes} bytes. Fewer rows or columns, please."
            )
        if batch.num_rows > left:
            yield batch.slice(0, left), True
            return
        left -= batch.num_rows
        yield batch, False


def _tabular(write: Callable[[Any, pa.Schema], Any]) -> Callable[[pa.RecordBatchReader, _Limits], Result]:
    def run(reader: pa.RecordBatchReader, limits: _Limits) -> Result:
        sink = io.BytesIO()
        rows, truncated = 0, False
        with write(sink, reader.schema) as writer:
            for batch, cut in _batches(reader, limits):
                writer.write_batch(batch)
                rows, truncated = rows + batch.num_rows, cut
        return Result(sink.getvalue(), rows, truncated)

    return run


def _csv(reader: pa.RecordBatchReader, limits: _Limits) -> Result:
    """CSV knows no nested values: lists and structs become JSON text."""
    schema = pa.schema(
        [pa.field(field.name, pa.string()) if pa.types.is_nested(field.type) else field for field in reader.schema]
    )

    def flat(batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = [
            pa.array([None if v is None else _json_text(v) for v in column.to_pylist()], pa.string())
            if pa.types.is_nested(column.type)
            else column
            for column in batch.columns
        ]
        return pa.record_batch(columns, schema=schema)

    sink = io.BytesIO()
    rows, truncated = 0, False
    with pa_csv.CSVWriter(sink, schema) as writer:
        for batch, cut in _batches(reader, limits):
            writer.write_batch(flat(batch))
            rows, truncated = rows + batch.num_rows, cut
    return Result(sink.getvalue(), rows, truncated)


def _json(reader: pa.RecordBatchReader, limits: _Limits) -> Result:
    rows: list[list[Any]] = []
    truncated = False
    for batch, cut in _batches(reader, limits):
        columns = [column.to_pylist() for column in batch.columns]
        rows += [list(row) for row in zip(*columns, strict=True)]
        truncated = cut
    names = [{"name": field.name, "type": str(field.type)} for field in reader.schema]
    return Result(_json_text({"columns": names, "rows": rows, "truncated": truncated}).encode(), len(rows), truncated)


def _json_text(value: Any) -> str:
    return _ENCODER.encode(value).decode()


def _plain(value: Any) -> Any:
    """What JSON has no word for."""
    match value:
        case datetime() | date() | time_of_day():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case UUID():
            return str(value)
        case bytes():
            return value.hex()
        case _:
            return str(value)


_ENCODER = msgspec.json.Encoder(enc_hook=_plain, decimal_format="number")  # sums of integers are decimals: numbers all the same

_WRITERS: dict[Format, Callable[[pa.RecordBatchReader, _Limits], Result]] = {
    "arrow": _tabular(pa.ipc.new_stream),
    "json": _json,
    "csv": _csv,
    "parquet": _tabular(pa_parquet.ParquetWriter),
}
