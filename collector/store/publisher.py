"""The publisher's thread: what has landed becomes segments, small segments become larger ones, and the catalog follows.

Reads the store and asks the writer for the two short steps that write: turning to the other generation, and letting segments count. Invariant: a crash between any
two of its steps loses nothing and doubles nothing; what it leaves behind is removed at the next start.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
from msgspec import Struct

from collector.store.catalog import CATALOG_NAME, Catalog
from collector.store.hot import StoreError
from collector.store.retention import Keep, due
from collector.store.rollups import ROLLUPS
from collector.store.segments import Segment, literal
from collector.store.store import Rotation, Store
from collector.store.tables import SNAPSHOTS, TABLES, Table
from collector.store.views import landing, published, resting
from collector.writer import Writer

logger = logging.getLogger(__name__)

FAN_IN = 10
"""So many segments of a level become one of the next."""
MAX_LEVEL = 4
MAX_SEGMENT_ROWS = 5_000_000
GRACE = timedelta(minutes=10)
"""How long the file of a superseded segment stays, for readers that know it from a catalog."""
PRUNE_EVERY = timedelta(minutes=1)
WAIT_ROUNDS = 4
"""While senders are busy, a publication waits for so many of its rounds at most."""
WAIT_ROWS = 150_000
"""It waits no longer once so many rows are unpublished."""


class Published(Struct, frozen=True):
    """What the publisher's last rounds did, for /metrics and the status."""

    segments: int = 0
    bytes: int = 0
    failures: int = 0
    last_error: str | None = None
    published_at: datetime | None = None
    seconds: float = 0.0


class Pruned(Struct):
    """What was removed because it was overdue: rows, and the bytes of their segments. The disk has them back once the grace of readers is over."""

    rows: int = 0
    bytes: int = 0


class Publisher:
    """Publishes every few seconds until it is closed. `removable` is asked which superseded files nobody else holds, behind the grace of their own."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        *,
        every_ms: int,
        keep: Keep,
        removable: Callable[[Iterable[str]], list[str]] = list,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._writer = writer
        self._every_s = every_ms / 1000
        self._keep = keep
        self._removable = removable
        self._clock = clock
        self._prune_at = clock()
        self.pruned = Pruned()
        self._stop = threading.Event()
        self._one = threading.Lock()
        self._marks: dict[str, tuple[int, int]] = {}
        self.state = Published()
        self._catalog = Catalog(store.folder.path.parent / CATALOG_NAME, store.columns, store.grace_ms)
        self._stale = True  # whether the catalog has still to follow
        self._untidy = True  # whether files may lie about that no record names
        self._clean_up()
        self._roll_up()
        self._succeed(self._write_catalog)
        self._thread = threading.Thread(target=self._run, name="publisher", daemon=True)
        self._thread.start()

    # --- the thread

    def _run(self) -> None:
        published = time.monotonic()
        while not self._stop.wait(self._every_s):
            waited_s = time.monotonic() - published
            if not may_wait(busy=self._writer.busy, rows=self._store.hot_rows, waited_s=waited_s, every_s=self._every_s):
                self.round()
                published = time.monotonic()

    def round(self) -> bool:
        """Publishes what waits, compacts once, removes what nobody needs; whether all of it succeeded. A failure is told in the state and tried again."""
        with self._one:
            start = time.monotonic()
            # Each of them, whatever became of those before: on a full disk it is the last ones that make room.
            done = self._succeed(
                self._clean_up,
                self._publish,
                self._compact,
                self._prune_in_time,
                self._write_catalog,
                self._remove_superseded,
            )
            return done and self._succeed(lambda: self._tell(start))

    def _tell(self, start: float) -> None:
        active = [segment for segment, _ in self._store.segments()]
        self.state = Published(
            len(active),
            sum(segment.bytes for segment in active),
            self.state.failures,
            None,
            self._clock(),
            time.monotonic() - start,
        )

    def _succeed(self, *steps: Callable[[], None]) -> bool:
        failures = []
        for step in steps:
            try:
                step()
            except (StoreError, duckdb.Error, OSError) as error:
                failures.append(str(error))
        if failures:
            message = "; ".join(dict.fromkeys(failures))
            logger.error("publishing failed: %s", message)
            self._untidy = True
            self.state = Published(
                self.state.segments, self.state.bytes, self.state.failures + 1, message, self.state.published_at
            )
        return not failures

    def close(self) -> None:
        """Publishes what has landed and ends. Before the writer is closed."""
        self._stop.set()
        self._thread.join()
        if self.round():  # both generations may hold rows
            self.round()

    # --- publishing

    def _adopt(self, generation: str | None, new: Iterable[Segment], superseded: Iterable[str]) -> None:
        self._stale = True  # before, because a failure behind the commit would leave the catalog as it is
        self._writer.call(lambda: self._store.adopt(generation, new, superseded))
        self._writer.call(self._store.file.checkpoint)

    def _publish(self) -> None:
        """Publishes the generation that was written."""
        rotation = self._writer.call(self._store.rotate)
        if rotation is None:
            self._publish_snapshots()
            return
        try:
            new = self._write_generation(rotation)
            snapshots, superseded, marks = self._snapshots(rotation.reader)
        finally:
            rotation.reader.close()
        self._adopt(rotation.generation, [*new, *snapshots], superseded)
        self._marks |= marks

    def _write_generation(self, rotation: Rotation) -> list[Segment]:
        new = []
        for name, rows in rotation.rows.items():
            if not rows:
                continue
            table = TABLES[name]
            source = published(table, landing(table, rotation.generation))
            new.append(self._write(rotation.reader, name, f"SELECT * FROM ({source}) ORDER BY {table.order}", table.sort_at))
            new += [
                self._write(rotation.reader, rollup.name, rollup.sorted(rollup.of(f"({source})")), rollup.at)
                for rollup in ROLLUPS.values()
                if rollup.source == name
            ]
        return new

    def _publish_snapshots(self) -> None:
        """Copies the small tables where they changed though nothing else did."""
        with self._store.reading() as reader:
            new, superseded, marks = self._snapshots(reader)
        if new:
            self._adopt(None, new, superseded)
            self._marks |= marks

    def _snapshots(self, reader: duckdb.DuckDBPyConnection) -> tuple[list[Segment], list[str], dict[str, tuple[int, int]]]:
        """Copies of the small tables for the catalog, the files that they replace, and their marks; none of a table that is as it was."""
        new, superseded, marks = [], [], {}
        files: dict[str, list[str]] = {}
        for segment, _ in self._store.segments():
            files.setdefault(segment.table, []).append(segment.file)
        for name, table in SNAPSHOTS.items():
            mark = self._mark(reader, table)
            if mark == self._marks.get(name) or (mark[0] == 0 and name not in files):
                continue
            query = f"{published(table, resting(table))} ORDER BY {table.order}"
            new.append(self._write(reader, name, query, table.sort_at))
            superseded += files.get(name, [])
            marks[name] = mark
        return new, superseded, marks

    def _mark(self, reader: duckdb.DuckDBPyConnection, table: Table) -> tuple[int, int]:
        """What changes when any row does: the number of rows, and a sum of hashes."""
        columns = ", ".join(f'"{column}"' for column in table.schema.names)
        row = reader.execute(f"SELECT count(*), coalesce(bit_xor(hash({columns})), 0) FROM {resting(table)}").fetchone()
        return (0, 0) if row is None else (row[0], row[1])

    def _write(self, reader: duckdb.DuckDBPyConnection, table: str, query: str, sort_at: str, *, level: int = 0) -> Segment:
        self._store.number += 1
        target = self._store.folder.file(table, self._store.number)
        size = self._store.folder.write(reader, query, target, table)
        row = reader.execute(
            f"SELECT count(*), epoch_us(min({sort_at})), epoch_us(max({sort_at})) FROM read_parquet(?)",
            [str(target)],
        ).fetchone()
        rows, first, last = row or (0, None, None)
        return Segment(table, target.name, level, rows, size, _time(first), _time(last))

    def _roll_up(self) -> None:
        """At the start: makes the rollups that a store from before does not have, of all that is published.

        They begin to count together, so a crash meanwhile leaves nothing but files that no record names.
        """
        active = [segment for segment, _ in self._store.segments()]
        present = {segment.table for segment in active}
        wanted = [
            (rollup, segment)
            for rollup in ROLLUPS.values()
            for segment in active
            if rollup.name not in present and segment.table == rollup.source
        ]
        if not wanted:
            return
        missing = dict.fromkeys(rollup.name for rollup, _ in wanted)
        logger.info("making %s of %d segments, once", ", ".join(missing), len({segment.file for _, segment in wanted}))
        with self._store.reading() as reader:
            new = [
                self._write(reader, rollup.name, rollup.sorted(rollup.of(rows)), rollup.at, level=segment.level)
                for rollup, segment in wanted
                for rows in [self._rows(rollup.source, [segment])]
            ]
        self._adopt(None, new, [])

    # --- compaction

    def _compact(self) -> None:
        """Merges the oldest segments of one level of each table that has enough of them."""
        groups: dict[tuple[str, int], list[Segment]] = {}
        for segment, _ in self._store.segments():
            if segment.table not in SNAPSHOTS and segment.level < MAX_LEVEL and segment.rows <= MAX_SEGMENT_ROWS // 2:
                groups.setdefault((segment.table, segment.level), []).append(segment)
        for (table, level), segments in groups.items():
            if len(segments) >= FAN_IN:
                self._merge(table, level, segments[:FAN_IN])

    def _merge(self, table: str, level: int, segments: list[Segment]) -> None:
        while sum(segment.rows for segment in segments) > MAX_SEGMENT_ROWS and len(segments) > 1:
            segments = segments[:-1]
        self.rewrite(table, level + 1, segments)

    def _rows(self, table: str, segments: list[Segment], where: str = "true") -> str:
        """The rows of segments of a table; columns that did not exist when one was written are null."""
        files = literal([self._store.folder.empty(table), *(self._store.folder.path / segment.file for segment in segments)])
        names = ", ".join(f'"{column}"' for column in self._store.columns[table])
        return f"(SELECT {names} FROM read_parquet({files}, union_by_name = true) WHERE {where})"

    def rewrite(self, table: str, level: int, segments: list[Segment], where: str = "true") -> Segment:
        """Replaces segments by one that has their rows, or those of them that a condition keeps, and returns it."""
        source = self._rows(table, segments, where)
        if rollup := ROLLUPS.get(table):
            query, sort_at = rollup.sorted(rollup.added(source)), rollup.at
        else:
            query, sort_at = f"SELECT * FROM {source} ORDER BY {TABLES[table].order}", TABLES[table].sort_at
        with self._store.reading() as reader:
            new = self._write(reader, table, query, sort_at, level=level)
        self._adopt(None, [new], [segment.file for segment in segments])
        return new

    # --- retention

    def prune(self) -> Pruned:
        """Removes everything that is overdue now, and returns what that was.

        Raises:
            StoreError, duckdb.Error, OSError: a part was not removed; the next round tries again.
        """
        with self._one:
            before = Pruned(self.pruned.rows, self.pruned.bytes)
            while self._prune():
                pass
            self._write_catalog()
        return Pruned(self.pruned.rows - before.rows, self.pruned.bytes - before.bytes)

    def _prune_in_time(self) -> None:
        if self._clock() >= self._prune_at:
            self._prune()

    def _prune(self) -> bool:
        """Lets overdue segments count no more, and rewrites at most one that is partly overdue, so that publishing waits for no more than that.

        Whether anything was overdue.
        """
        now = self._clock()
        active = [segment for segment, _ in self._store.segments()]
        overdue = due(active, self._keep, now)
        turns = self._prune_open(now)
        if overdue.whole:
            self._adopt(None, [], [segment.file for segment in overdue.whole])
            self.pruned.rows += sum(segment.rows for segment in overdue.whole)
            self.pruned.bytes += sum(segment.bytes for segment in overdue.whole)
        for segment, border in overdue.partly[:1]:
            sort_at = ROLLUPS[segment.table].at if segment.table in ROLLUPS else TABLES[segment.table].sort_at
            new = self.rewrite(segment.table, segment.level, [segment], f"{sort_at} >= '{border.isoformat()}'")
            self.pruned.rows += segment.rows - new.rows
            self.pruned.bytes += segment.bytes - new.bytes
        if len(overdue.partly) <= 1:
            self._prune_at = now + PRUNE_EVERY
        return bool(turns or overdue.whole or overdue.partly)

    def _prune_open(self, now: datetime) -> int:
        """Removes turns that were accepted so long ago that nobody waits for their terminal; how many."""
        border = self._keep.border("ended", now)
        if border is None:
            return 0
        border_ns = round(border.timestamp()) * 1_000_000_000
        with self._store.reading() as reader:
            row = reader.execute("SELECT count(*) FROM landing.accepted WHERE started_ns < ?", [border_ns]).fetchone()
        rows = int(row[0]) if row else 0
        if rows:
            delete = "DELETE FROM landing.accepted WHERE started_ns < ?"
            self._writer.call(lambda: self._store.transaction(lambda connection: connection.execute(delete, [border_ns])))
            self.pruned.rows += rows
        return rows

    # --- files

    def _write_catalog(self) -> None:
        """Lets the catalog follow where the segments that count have changed since."""
        if not self._stale:
            return
        folder = self._store.folder
        files: dict[str, list[Path]] = {name: [folder.empty(name)] for name in self._store.columns}
        for segment, _ in self._store.segments():
            files[segment.table].append(folder.path / segment.file)
        self._catalog.write(files)
        self._stale = False

    def _clean_up(self) -> None:
        """Removes files that no record names: what a crash, or a round that failed, left behind."""
        if not self._untidy:
            return
        known = {segment.file for late in (False, True) for segment, _ in self._store.segments(superseded=late)}
        if strangers := self._store.folder.remove_strangers(known):
            logger.info("removed %d files of an unfinished publication", len(strangers))
        self._untidy = False

    def _remove_superseded(self) -> None:
        border = self._clock() - GRACE
        old = [segment.file for segment, since in self._store.segments(superseded=True) if since is not None and since < border]
        if old := self._removable(old):
            self._writer.call(lambda: self._store.forget(old))
            self._store.folder.remove(old)


def may_wait(*, busy: bool, rows: int, waited_s: float, every_s: float) -> bool:
    """Whether a publication waits for a pause of the senders, who want the same cores: not with many rows, which live queries have to go through, and not for long.

    Rows that are published together are fewer segments, which are less to compact.
    """
    return busy and rows < WAIT_ROWS and waited_s < WAIT_ROUNDS * every_s


def _time(us: int | None) -> datetime | None:
    return None if us is None else datetime.fromtimestamp(us / 1e6, UTC)
