"""The lake as one collector writes it: makes its tables and views where they are missing, and lets exactly the wanted files be registered.

Owns both connections of a collector to the lake. Invariant: a round changes the lake in one transaction of DuckLake, so a reader has each row of this collector once at
any snapshot; and the plan of a round is made from what the lake has, under the lock, so no file is registered twice.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import duckdb
import psycopg
from msgspec import Struct

from collector.lake.dsn import Dsn, LakeUnusable
from collector.lake.engine import attach
from collector.lake.plan import Files, Plan, plan
from collector.lake.registry import FolderTaken, Registry
from collector.lake.views import SEGMENTS, lake_views
from collector.store.describe import TABLES_TEXT
from collector.store.segments import literal, quoted
from collector.store.views import Columns
from lastword import __version__

KEEP_SNAPSHOTS_S = 600
"""How long the lake remembers a snapshot, in seconds: as long as the files of superseded segments stay."""
EXPIRE_EVERY_S = 60.0


class LakeError(Exception):
    """The lake was not written. The message has no password in it."""


class Shape(Struct, frozen=True):
    """What tables and views are made from: the columns of each table, an empty segment of each, and the grace of turns that never end."""

    columns: Columns
    empty: dict[str, Path]
    grace_ms: int


class Done(Struct, frozen=True):
    """What a round did."""

    added: int
    removed: int
    seconds: float


class Lake:
    """One collector's way into the lake. One thread uses it; after an error the next use connects anew. Without a shape it makes nothing, and can only leave."""

    def __init__(
        self, dsn: Dsn, data_path: Path | None, *, folder: Path, collector: str = "", shape: Shape | None = None
    ) -> None:
        self._dsn = dsn
        self._data_path = data_path
        self._folder = str(folder)
        self._collector = collector
        self._shape = shape
        self._registry: Registry | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._expire_at = 0.0

    @property
    def application(self) -> str:
        """The name of this collector's connections, by which it finds those that it left behind."""
        return f"lastword-lake-{sha256(self._folder.encode()).hexdigest()[:16]}"

    def register(self, wanted: Files) -> Done:
        """Lets these files be what the lake has of this collector.

        Raises:
            LakeError: it may not have happened; the lake is as it was, or as it should be.
        """
        try:
            registry, connection = self._opened()
            start = time.monotonic()
            with registry.turn():
                registry.claim(self._folder, self._collector)
                todo = plan(wanted, registry.registered(self._folder))
                if todo:
                    self._change(connection, todo)
                registry.entered(self._folder, sum(len(paths) for paths in wanted.values()))
                if time.monotonic() >= self._expire_at:
                    self._expire(connection, registry)
        except (duckdb.Error, psycopg.Error, FolderTaken, LakeUnusable) as error:
            self.close()
            raise LakeError(self._dsn.hide(error)) from None  # the cause would be printed with its password
        added, removed = (sum(len(paths) for paths in files.values()) for files in (todo.add, todo.remove))
        return Done(added, removed, time.monotonic() - start)

    def leave(self) -> int:
        """Takes every file of the folder out of the lake; how many there were.

        Raises:
            LakeError: it may not have happened.
        """
        try:
            registry, connection = self._opened()
            with registry.turn():
                todo = plan({}, registry.registered(self._folder))
                if todo:
                    self._change(connection, todo)
                registry.leave(self._folder)
        except (duckdb.Error, psycopg.Error, LakeUnusable) as error:
            self.close()
            raise LakeError(self._dsn.hide(error)) from None
        return sum(len(paths) for paths in todo.remove.values())

    def close(self) -> None:
        """Ends the connections; the next use opens them again."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._registry is not None:
            self._registry.close()
            self._registry = None

    # --- opening

    def _opened(self) -> tuple[Registry, duckdb.DuckDBPyConnection]:
        if self._registry is None or self._connection is None:
            self._registry = Registry(self._dsn, self.application)
            self._registry.fence()
            with self._registry.turn():  # two collectors that come first at the same time make one lake
                self._registry.make()
            with self._registry.turn():
                self._connection = attach(self._dsn, self.application, write=True, data_path=self._data_path)
                if self._shape is not None:
                    self._make_tables(self._connection, self._shape)
                    self._make_views(self._connection, self._registry, self._shape)
        return self._registry, self._connection

    def _make_tables(self, connection: duckdb.DuckDBPyConnection, shape: Shape) -> None:
        """Makes tables and columns that are missing. A lake of a newer collector has more, which segments of ours need not have."""
        for schema in (SEGMENTS, "store"):
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        there: dict[str, set[str]] = {}
        for table, column in connection.execute(
            "SELECT table_name, column_name FROM duckdb_columns() WHERE database_name = 'lake' AND schema_name = ?", [SEGMENTS]
        ).fetchall():
            there.setdefault(table, set()).add(column)
        for table, empty in shape.empty.items():
            source = f"read_parquet({quoted(empty)})"
            if table not in there:
                connection.execute(f"CREATE TABLE {SEGMENTS}.{table} AS SELECT * FROM {source} LIMIT 0")
                continue
            for name, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall():
                if name not in there[table]:
                    connection.execute(f'ALTER TABLE {SEGMENTS}.{table} ADD COLUMN "{name}" {kind}')

    def _make_views(self, connection: duckdb.DuckDBPyConnection, registry: Registry, shape: Shape) -> None:
        """Makes the views where they are not those of this version."""
        statements = lake_views(shape.columns, shape.grace_ms)
        mark = sha256("".join([*statements, str(dict(TABLES_TEXT)), __version__]).encode()).hexdigest()
        if registry.about("views") == mark:
            return
        connection.execute("CALL lake.set_option('data_inlining_row_limit', 0)")
        connection.execute("CALL lake.set_option('auto_compact', false)")  # a merged file would be nobody's: see docs/growth.md
        with _transaction(connection):
            for statement in statements:
                connection.execute(statement)
            for name, text in TABLES_TEXT.items():
                connection.execute(f"COMMENT ON VIEW {name} IS {quoted(f'A row is {text}.')}")
        registry.note("views", mark)

    # --- changing

    def _change(self, connection: duckdb.DuckDBPyConnection, todo: Plan) -> None:
        with _transaction(connection):
            for table, paths in todo.add.items():
                files = literal([Path(path) for path in paths])
                connection.execute(
                    f"CALL ducklake_add_data_files('lake', {quoted(table)}, {files}, schema => {quoted(SEGMENTS)}, "
                    "allow_missing => true, ignore_extra_columns => true)"
                )
            for table, paths in todo.remove.items():
                # A condition on the file alone: whole files are dropped by their entry, and none of them is read.
                connection.execute(f"DELETE FROM {SEGMENTS}.{table} WHERE filename IN ({', '.join(map(quoted, paths))})")

    def _expire(self, connection: duckdb.DuckDBPyConnection, registry: Registry) -> None:
        """Forgets old snapshots, so that the catalog does not grow with every round."""
        connection.execute(
            f"CALL ducklake_expire_snapshots('lake', older_than => now() - to_seconds({KEEP_SNAPSHOTS_S}))"
        ).fetchall()
        registry.forget_scheduled()
        self._expire_at = time.monotonic() + EXPIRE_EVERY_S


@contextlib.contextmanager
def _transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    connection.begin()
    try:
        yield
    except BaseException:
        with contextlib.suppress(duckdb.Error):  # the failure may have ended the transaction already
            connection.rollback()
        raise
    connection.commit()
