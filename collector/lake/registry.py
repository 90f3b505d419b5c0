"""What a collector asks the lake's PostgreSQL directly: whose folder it is, whose turn to write it is, and which of its files are registered.

DuckLake's own transactions are what keeps the lake right; the lock here only spares collectors from writing at the same time, because DuckLake refuses to take files out
of a table that another transaction has put files into meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import psycopg
from msgspec import Struct

from collector.lake.dsn import Dsn
from collector.lake.engine import SCHEMA
from collector.lake.plan import Files
from collector.lake.views import SEGMENTS

LOCK = int.from_bytes(b"lastword", "big")
"""The advisory lock of whoever writes the lake."""
_GONE_MS = 20_000
_BELONGS = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.lastword_collectors (
    folder text PRIMARY KEY, collector text NOT NULL, registered_at timestamptz, files bigint NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS {SCHEMA}.lastword_about (key text PRIMARY KEY, value text NOT NULL)
"""
_REGISTERED = f"""
SELECT t.table_name, f.path FROM {SCHEMA}.ducklake_data_file AS f
JOIN {SCHEMA}.ducklake_table AS t ON t.table_id = f.table_id AND t.end_snapshot IS NULL
JOIN {SCHEMA}.ducklake_schema AS s ON s.schema_id = t.schema_id AND s.end_snapshot IS NULL
WHERE f.end_snapshot IS NULL AND s.schema_name = '{SEGMENTS}' AND starts_with(f.path, %s)
"""


class FolderTaken(Exception):
    """The folder is registered by another collector."""


class Member(Struct, frozen=True):
    """A collector of the lake, when it registered last, and how many files it has there."""

    folder: str
    collector: str
    registered_at: datetime | None
    files: int


class Registry:
    """A connection of its own to the lake's PostgreSQL. One thread uses it.

    Raises everywhere:
        psycopg.Error: PostgreSQL did not do it; the message may hold the password, see `Dsn.hide`.
    """

    def __init__(self, dsn: Dsn, application: str) -> None:
        self._connection = psycopg.connect(dsn.text(application))
        self._application = application

    def close(self) -> None:
        """Ends the connection, and what it had not committed."""
        self._connection.close()

    def fence(self) -> None:
        """Waits until no connection of an earlier try of this collector is left: a commit that was under way when it was killed has then happened, or never will."""
        self._run(
            "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity "
            "WHERE application_name = %s AND usename = current_user AND pid <> pg_backend_pid()",
            _GONE_MS,
            self._application,
        )
        self._connection.commit()

    @contextmanager
    def turn(self) -> Iterator[None]:
        """The only collector that writes, while it lasts. What is run in it is committed with its end."""
        with self._connection.transaction():
            self._run("SELECT pg_advisory_xact_lock(%s)", LOCK)
            yield

    def make(self) -> None:
        """The tables beside DuckLake's, where they are missing."""
        self._run(_BELONGS)

    def claim(self, folder: str, collector: str) -> None:
        """Enters the folder as this collector's.

        Raises:
            FolderTaken: another collector has entered it.
        """
        self._run(
            f"INSERT INTO {SCHEMA}.lastword_collectors (folder, collector) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            folder,
            collector,
        )
        rows = self._run(f"SELECT collector FROM {SCHEMA}.lastword_collectors WHERE folder = %s", folder)
        if rows != [(collector,)]:
            raise FolderTaken(
                f"{folder} is in the lake as the folder of another collector: each needs a folder that no other machine has under the same "
                f"path. Where it was this one before it was restored: lastword lake leave --folder {folder}"
            )

    def entered(self, folder: str, files: int) -> None:
        """Notes a registration that succeeded."""
        self._run(f"UPDATE {SCHEMA}.lastword_collectors SET registered_at = now(), files = %s WHERE folder = %s", files, folder)

    def leave(self, folder: str) -> None:
        """Forgets whose folder it was."""
        self._run(f"DELETE FROM {SCHEMA}.lastword_collectors WHERE folder = %s", folder)

    def members(self) -> list[Member]:
        """The collectors of the lake."""
        rows = self._run(f"SELECT folder, collector, registered_at, files FROM {SCHEMA}.lastword_collectors ORDER BY folder")
        return [Member(*row) for row in rows]

    def registered(self, folder: str) -> Files:
        """The files of a folder that the lake has now, by table."""
        found: Files = {}
        for table, path in self._run(_REGISTERED, f"{folder}/"):
            found.setdefault(table, set()).add(path)
        return found

    def forget_scheduled(self) -> None:
        """Strikes segments off DuckLake's list of files to delete. They are the collectors': who publishes a file unlinks it."""
        self._run(
            f"DELETE FROM {SCHEMA}.ducklake_files_scheduled_for_deletion AS gone USING {SCHEMA}.lastword_collectors AS c "
            "WHERE starts_with(gone.path, c.folder || '/')"
        )

    def about(self, key: str) -> str | None:
        """What was noted under a key."""
        rows = self._run(f"SELECT value FROM {SCHEMA}.lastword_about WHERE key = %s", key)
        return rows[0][0] if rows else None

    def note(self, key: str, value: str) -> None:
        """Notes something about the lake."""
        self._run(
            f"INSERT INTO {SCHEMA}.lastword_about VALUES (%s, %s) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            key,
            value,
        )

    def _run(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(sql.encode(), values or None)
        return cursor.fetchall() if cursor.description else []
