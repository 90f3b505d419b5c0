"""The catalog: a DuckDB file of views over the segments, for anybody's DuckDB. Written beside and renamed over, so a reader finds it whole at any time."""

from __future__ import annotations

import shutil
from hashlib import sha256
from pathlib import Path

import duckdb

from collector.store.describe import TABLES_TEXT, describe
from collector.store.segments import literal, quoted, sync_file, sync_folder
from collector.store.views import Columns, base_views, people_views, with_grace
from lastword import __version__

CATALOG_NAME = "catalog.duckdb"
STORAGE_VERSION = "v1.5.0"
"""So that clients older than the collector's engine can read it."""


class Catalog:
    """The catalog file. `columns` are those of each table's segments."""

    def __init__(self, path: Path, columns: Columns, grace_ms: int) -> None:
        self._path = path
        self._unfinished = path.with_name(path.name + ".unfinished")
        self._columns = columns
        self._grace_ms = grace_ms
        everything = [*people_views(), str(columns), str(grace_ms), str(dict(TABLES_TEXT)), __version__]
        self._mark = sha256("".join(everything).encode()).hexdigest()
        self._written: dict[str, list[Path]] | None = {} if self._is_ours() else None

    def _is_ours(self) -> bool:
        """Whether there is a catalog whose views are those of this collector, whatever segments they read."""
        try:
            with duckdb.connect(str(self._path), read_only=True) as connection:
                return connection.execute("SELECT mark FROM store.made_by").fetchone() == (self._mark,)
        except duckdb.Error:  # there is none, or it is another's, or broken: it is made anew
            return False

    def write(self, files: dict[str, list[Path]]) -> None:
        """Writes the views over these segments, by table. Each table has at least its empty segment.

        Raises:
            duckdb.Error, OSError: the catalog of before is still there.
        """
        expressions = {name: literal(paths) for name, paths in files.items()}
        base = base_views(expressions.__getitem__, self._columns, live=False)
        self._unfinished.unlink(missing_ok=True)
        if self._written is not None:
            # Views are bound when they are read: those of tables that changed are enough, and making a view costs milliseconds.
            changed = {name for name, paths in files.items() if paths != self._written.get(name)}
            statements = [
                view for view in base if view.removeprefix("CREATE OR REPLACE VIEW store.").partition(" ")[0] in changed
            ]
            shutil.copyfile(self._path, self._unfinished)
        else:
            statements = [
                "CREATE SCHEMA store",
                f"CREATE TABLE store.made_by AS SELECT {quoted(self._mark)} AS mark",
                *base,
                *people_views(),
            ]
        with duckdb.connect(":memory:", config={"autoinstall_known_extensions": "false", "threads": "1"}) as connection:
            connection.execute(f"ATTACH {quoted(self._unfinished)} AS catalog (STORAGE_VERSION {quoted(STORAGE_VERSION)})")
            connection.execute("USE catalog")
            connection.begin()
            for statement in with_grace(statements, self._grace_ms):
                connection.execute(statement)
            if self._written is None:
                describe(connection)
            connection.commit()
            connection.execute("USE memory")
            connection.execute("DETACH catalog")
        sync_file(self._unfinished)
        self._unfinished.replace(self._path)
        sync_folder(self._path.parent)
        self._written = {name: list(paths) for name, paths in files.items()}
