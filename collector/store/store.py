"""What stands in the hot file and what it says of the segments: append batches, hand out readers, and take over what was published.

Owns the schema and the table of segments. Invariants: one thread writes (the writer's); what `append` returned from is on disk; a row is stored once however
often it comes; a row stands either in a landing table or in a segment that counts, and changes sides in one transaction.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import duckdb
import pyarrow as pa
from msgspec import Struct

from collector.store import migrations
from collector.store.append import Appended, Appender
from collector.store.describe import TABLES_TEXT, describe
from collector.store.freshness import Freshness
from collector.store.hot import Config, HotFile, StoreError
from collector.store.rollups import ROLLUPS, STEP_MINUTES
from collector.store.segments import Folder, Segment, literal, quoted
from collector.store.tables import SNAPSHOTS, TABLES, Table, create_table
from collector.store.views import GENERATIONS, Columns, base_views, landing, people_views, published, resting, with_grace
from lastword import __version__

T = TypeVar("T")

HOT_NAME = "hot.duckdb"
SEGMENTS_NAME = "segments"


class Times(NamedTuple):
    """Times that somebody asks about, both included: when turns ended, when spans began, what counts were counted of. None is no bound."""

    since: datetime | None = None
    until: datetime | None = None


EVER = Times()


class Rotation(Struct):
    """A generation that is written no more, and a reader that sees the store as it was at that moment. The holder closes the reader."""

    generation: str
    rows: dict[str, int]
    reader: duckdb.DuckDBPyConnection


class Store:
    """The store of one collector."""

    def __init__(
        self, folder: Path, *, memory_limit_mib: int, threads: int, abandoned_grace_ms: int, dedup_keys: int = 1_000_000
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / HOT_NAME
        self.folder = Folder(folder / SEGMENTS_NAME)
        self.grace_ms = abandoned_grace_ms
        self.number = 0
        self._dedup_keys = dedup_keys
        self._freshness = Freshness(self.folder)
        self._freshness_lock = threading.Lock()
        self._generation = GENERATIONS[0]
        migrations.adopt_old_name(folder, self.path)
        config: Config = {
            "autoinstall_known_extensions": "false",  # nothing is fetched, and nothing is loaded that a query names
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",  # a query must not see this process's variables
            "memory_limit": f"{memory_limit_mib}MiB",
            "threads": str(threads),
            "temp_directory": str(folder / "tmp"),
            "checkpoint_threshold": "1GiB",  # checkpoints are written when the file is small: see `HotFile.checkpoint`
        }
        self.file = HotFile(self.path, config, self._set_up)

    def _set_up(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Whenever the file was opened, in the middle of a publication too: the generation that is written stays, because the other may be on its way into segments."""
        connection.execute("SET GLOBAL TimeZone = 'UTC'")  # of every cursor, whatever the machine's zone is
        connection.execute("SET GLOBAL parquet_metadata_cache = true")  # segments never change: their footers are read once
        try:
            migrations.migrate(connection)
        except migrations.SchemaUnknown as error:
            raise StoreError(str(error)) from error
        self.columns = _published_columns(connection)
        self._make_views(connection)
        self.number = max(self.number, self.folder.highest_number(), _highest_recorded(connection))
        self._see_segments(connection)
        # From here on the engine itself keeps queries from files but these, and from changing that.
        connection.execute(f"SET allowed_directories = {literal([self.folder.path])}")
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        self._hot = {
            (name, generation): _count(connection, landing(table, generation))
            for name, table in TABLES.items()
            for generation in GENERATIONS
        }
        self._appender = Appender(connection, self._dedup_keys)

    def _make_views(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Makes the views, and the segments without rows that they need, where they are not those of this collector."""
        files = {name: f"getvariable('segments')['{name}']" for name in self.columns}
        statements = with_grace([*base_views(files.__getitem__, self.columns, live=True), *people_views()], self.grace_ms)
        mark = sha256("".join([*statements, str(dict(TABLES_TEXT)), __version__]).encode()).hexdigest()
        row = connection.execute("SELECT value FROM store.meta WHERE key = 'views'").fetchone()
        if row is not None and row[0] == mark and all(self.folder.empty(name).exists() for name in self.columns):
            return
        for table in (*TABLES.values(), *SNAPSHOTS.values()):
            query = f"SELECT * FROM ({published(table, _any_landing(table))}) LIMIT 0"
            self.folder.write(connection, query, self.folder.empty(table.name), table.name)
        for name, rollup in ROLLUPS.items():
            columns = ", ".join(f'CAST(NULL AS {kind}) AS "{column}"' for column, kind in rollup.columns().items())
            self.folder.write(connection, f"SELECT * FROM (SELECT {columns}) LIMIT 0", self.folder.empty(name), name)
        self._see_segments(connection)
        connection.begin()
        for statement in statements:
            connection.execute(statement)
        describe(connection)
        connection.execute("DELETE FROM store.meta WHERE key = 'views'")
        connection.execute("INSERT INTO store.meta VALUES ('views', ?)", [mark])
        connection.commit()

    # --- writing

    @property
    def hot_rows(self) -> int:
        """Rows that are not published yet."""
        return sum(self._hot.values())

    def append(self, batches: dict[str, pa.Table]) -> Appended:
        """Stores the rows that are new, in one transaction. Called by the writer's thread alone.

        Raises:
            StoreError: nothing was stored.
        """
        appended, remember = self.transaction(lambda _: self._appender.append(batches, self._generation))
        remember()
        for name, rows in appended.stored.items():
            if name in TABLES:
                self._hot[name, self._generation] += rows
        return appended

    def transaction(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T:
        """Runs statements in one transaction, durable when this returns. In the writer's thread alone: see `Writer.call`.

        Raises:
            StoreError: nothing has changed.
        """
        return self.file.transaction(work)

    # --- publishing: the writer's thread calls these for the publisher

    def rotate(self) -> Rotation | None:
        """Turns to the other generation and returns the one that was written; none where nothing waits to be published.

        Raises:
            StoreError: the file cannot be opened.
        """
        self.file.look_after()  # here, because this is asked for every few seconds, also where nothing is sent
        if not self.hot_rows:
            return None
        other = GENERATIONS[1 - GENERATIONS.index(self._generation)]
        if not any(self._hot[name, other] for name in TABLES):
            self._generation, other = other, self._generation
        rows = {name: self._hot[name, other] for name in TABLES}
        return Rotation(other, rows, self._begin_reading())

    def adopt(self, generation: str | None, new: Iterable[Segment], superseded: Iterable[str]) -> None:
        """Lets new segments count and others no more, and empties a generation, in one transaction.

        Raises:
            StoreError: nothing has changed.
        """
        self.transaction(lambda connection: self._adopt(connection, generation, new, superseded))
        if generation is not None:
            self._hot.update({(name, generation): 0 for name in TABLES})
        self._see_segments(self.file.connection)

    def _adopt(
        self, connection: duckdb.DuckDBPyConnection, generation: str | None, new: Iterable[Segment], superseded: Iterable[str]
    ) -> None:
        now = datetime.now(UTC)
        for segment in new:
            row = [
                segment.table,
                segment.file,
                segment.level,
                segment.rows,
                segment.bytes,
                segment.first_at,
                segment.last_at,
                now,
            ]
            connection.execute("INSERT INTO store.segments VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL)", row)
        for file in superseded:
            connection.execute("UPDATE store.segments SET superseded_at = ? WHERE file = ?", [now, file])
        if generation is not None:
            for name, table in TABLES.items():
                if self._hot[name, generation]:
                    connection.execute(create_table(landing(table, generation), table.schema, replace=True))

    def forget(self, files: Iterable[str]) -> None:
        """Drops superseded segments from the records; their files are removed after it."""
        delete = "DELETE FROM store.segments WHERE file = ? AND superseded_at IS NOT NULL"
        self.transaction(lambda connection: [connection.execute(delete, [file]) for file in files])

    # --- reading: any thread

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own onto the same database. It sees no segments: see `reading`."""
        return self.file.cursor()

    @contextlib.contextmanager
    def reading(self, times: Times = EVER) -> Iterator[duckdb.DuckDBPyConnection]:
        """A reader in a read-only transaction: landing tables and segments as they stood together when it began, without the segments that hold nothing of these times."""
        cursor = self._begin_reading(times)
        try:
            yield cursor
        finally:
            cursor.close()  # ends the transaction

    def _begin_reading(self, times: Times = EVER) -> duckdb.DuckDBPyConnection:
        cursor = self.cursor()
        cursor.execute("BEGIN TRANSACTION READ ONLY")
        self._see_segments(cursor, times)
        return cursor

    def _see_segments(self, connection: duckdb.DuckDBPyConnection, times: Times = EVER) -> None:
        """Lets a connection's views read the segments that count in its transaction."""
        files = {name: [str(self.folder.empty(name))] for name in self.columns}
        # Counts stand at the beginning of what they count. A file that is not opened costs nothing: of one that is, the engine prepares every column of every row group before it looks for rows.
        counting = connection.execute(
            "SELECT table_name, file FROM store.segments WHERE superseded_at IS NULL "
            f"AND (table_name IN ({', '.join(quoted(name) for name in SNAPSHOTS)}) OR ("
            f"coalesce(last_at >= $since::TIMESTAMPTZ - INTERVAL {STEP_MINUTES} MINUTE, true) AND coalesce(first_at <= $until, true))) ORDER BY file",
            times._asdict(),
        )
        for table, file in counting.fetchall():
            files[table].append(f"{self.folder.path}/{file}")
        connection.execute("SET VARIABLE segments = $1", [files])

    def segments(self, *, superseded: bool = False) -> list[tuple[Segment, datetime | None]]:
        """The segments that count, or those that count no more with the time since when."""
        cursor = self.cursor()
        try:
            rows = cursor.execute(
                "SELECT table_name, file, level, rows, bytes, epoch_us(first_at), epoch_us(last_at), epoch_us(superseded_at) FROM store.segments "
                f"WHERE superseded_at IS {'NOT ' if superseded else ''}NULL ORDER BY file"
            ).fetchall()
        finally:
            cursor.close()
        return [
            (Segment(table, file, level, count, size, _time(first), _time(last)), _time(since))
            for table, file, level, count, size, first, last, since in rows
        ]

    def newest(self) -> dict[str, Any]:
        """Counts and the newest times, for the freshness badge."""
        with self._freshness_lock, self.reading() as cursor:
            return self._freshness.read(cursor)

    def close(self) -> None:
        """Writes the log into the file and closes it."""
        self.file.close()


def _published_columns(connection: duckdb.DuckDBPyConnection) -> Columns:
    """The columns of each table's segments, and their types."""
    found = {name: rollup.columns() for name, rollup in ROLLUPS.items()}
    for table in (*TABLES.values(), *SNAPSHOTS.values()):
        rows = connection.execute(f"DESCRIBE {published(table, _any_landing(table))}").fetchall()
        found[table.name] = {row[0]: row[1] for row in rows}
    return found


def _highest_recorded(connection: duckdb.DuckDBPyConnection) -> int:
    row = connection.execute(
        "SELECT coalesce(max(CAST(regexp_extract(file, '-(\\d+)\\.', 1) AS BIGINT)), 0) FROM store.segments"
    ).fetchone()
    return int(row[0]) if row else 0


def _count(connection: duckdb.DuckDBPyConnection, table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(row[0]) if row else 0


def _any_landing(table: Table) -> str:
    return resting(table) if table.name in SNAPSHOTS else landing(table, GENERATIONS[0])


def _time(us: int | None) -> datetime | None:
    return None if us is None else datetime.fromtimestamp(us / 1e6, UTC)
