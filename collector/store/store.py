"""Opening the DuckDB file, and the two things done to it: append batches, and hand out read cursors.

Owns the file and its schema. Invariants: one thread writes; what `append` returned from is on disk; a row is stored once however often it comes.
"""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from msgspec import Struct

from collector.store.tables import ACCEPTED, CONTENT, ENDED, SPANS, create_table

SCHEMA_VERSION = 1
_TABLES = {"spans": SPANS, "accepted": ACCEPTED, "ended": ENDED, "content": CONTENT}
_KEYS = {
    "spans": (("trace_id", "span_id"), "start_ns"),
    "accepted": (("turn_id",), "started_ns"),
    "ended": (("turn_id",), "started_ns"),
    "content": (("turn_id",), "ended_ns"),
}
"""What makes a row of a table the same row, and the time that rows lie near on disk by: a resent row has the same time, so the search for
it reads only the blocks around that time."""


class StoreError(Exception):
    """The store cannot be opened or written. The message says why, for the operator."""


class Appended(Struct, frozen=True):
    """What one commit did, by table: rows that were new, and rows that were there already."""

    stored: dict[str, int]
    duplicates: dict[str, int]


class Store:
    """The DuckDB file of one collector."""

    def __init__(self, folder: Path, *, memory_limit_mib: int, threads: int, abandoned_grace_ms: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "live.duckdb"
        config: dict[str, str | bool | int | float | list[str]] = {
            "autoinstall_known_extensions": "false",  # nothing is fetched, and nothing is loaded that a query names
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",  # a query must not see this process's variables
            "memory_limit": f"{memory_limit_mib}MiB",
            "threads": str(threads),
            "temp_directory": str(folder / "tmp"),
        }
        try:
            self._connection = duckdb.connect(str(path), config=config)
        except duckdb.IOException as error:
            if "lock" in str(error).lower():
                raise StoreError(f"{path} is in use by another collector") from error
            raise StoreError(f"{path} cannot be opened: {error}") from error
        self._cursor_lock = threading.Lock()
        self._connection.execute("SET GLOBAL TimeZone = 'UTC'")  # of every cursor, whatever the machine's zone is
        self._set_up(abandoned_grace_ms)
        # From here on the engine itself keeps queries from files, and from changing that.
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")

    def _set_up(self, abandoned_grace_ms: int) -> None:
        connection = self._connection
        connection.execute("CREATE SCHEMA IF NOT EXISTS store")
        connection.execute("CREATE TABLE IF NOT EXISTS store.meta (key VARCHAR, value VARCHAR)")
        row = connection.execute("SELECT value FROM store.meta WHERE key = 'schema_version'").fetchone()
        if row is not None and row[0] != str(SCHEMA_VERSION):
            raise StoreError(f"the store has schema version {row[0]}; this collector knows {SCHEMA_VERSION}")
        if row is None:
            for name, schema in _TABLES.items():
                connection.execute(create_table(f"store.{name}", schema))
            connection.execute("INSERT INTO store.meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])
        views = (Path(__file__).parent / "views.sql").read_text(encoding="utf-8")
        connection.execute(views.replace("$grace_ms", str(abandoned_grace_ms)))
        connection.execute("CHECKPOINT")

    def append(self, batches: dict[str, pa.Table]) -> Appended:
        """Stores the rows that are new, in one transaction. Called by the writer's thread alone.

        A batch must not hold a row twice; rows that the file holds already are left out.

        Raises:
            StoreError: nothing was stored.
        """
        stored: dict[str, int] = {}
        duplicates: dict[str, int] = {}
        connection = self._connection
        try:
            connection.begin()
            for name, table in batches.items():
                stored[name] = self._append_one(connection, name, table)
                duplicates[name] = table.num_rows - stored[name]
            connection.commit()
        except duckdb.Error as error:
            self._rollback()
            raise StoreError(str(error)) from error
        return Appended(stored, duplicates)

    @staticmethod
    def _append_one(connection: duckdb.DuckDBPyConnection, name: str, table: pa.Table) -> int:
        keys, time = _KEYS[name]
        same = " AND ".join(f"old.{key} = new.{key}" for key in (*keys, time))
        connection.register("incoming", table)
        try:
            low, high = connection.execute(f"SELECT min({time}), max({time}) FROM incoming").fetchone() or (0, 0)  # noqa: S608 - our own names
            result = connection.execute(
                f"INSERT INTO store.{name} BY NAME SELECT new.* FROM incoming AS new WHERE NOT EXISTS ("  # noqa: S608 - our own names
                f"SELECT 1 FROM store.{name} AS old WHERE old.{time} BETWEEN {low} AND {high} AND {same})"
            ).fetchone()
        finally:
            connection.unregister("incoming")
        return int(result[0]) if result else 0

    def _rollback(self) -> None:
        with contextlib.suppress(duckdb.Error):  # the failure may have ended the transaction already
            self._connection.rollback()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A connection of its own onto the same database, for one reader. Readers see what was committed when they began."""
        with self._cursor_lock:
            return self._connection.cursor()

    def newest(self) -> dict[str, Any]:
        """Counts and the newest times, for the freshness badge."""
        cursor = self.cursor()
        try:
            row = cursor.execute(
                "SELECT (SELECT count(*) FROM store.ended), (SELECT count(*) FROM store.spans), "
                "(SELECT max(ended_ns) FROM store.ended), (SELECT count(*) FROM open_turns)"
            ).fetchone()
        finally:
            cursor.close()
        turns, spans, ended_ns, open_turns = row or (0, 0, None, 0)
        return {"turns": turns, "spans": spans, "newestEndedNs": ended_ns, "openTurns": open_turns}

    def close(self) -> None:
        """Writes the log into the file and closes it."""
        try:
            self._connection.execute("CHECKPOINT")
        finally:
            self._connection.close()
