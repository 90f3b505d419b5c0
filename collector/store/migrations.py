"""The schema of the hot file: made where there is none, brought forward where it is older, refused where it is newer.

A step leads from one version to the next and runs in a transaction of its own. New columns need no step: they are added where they are missing. After any change
the caller writes a checkpoint, because an engine that replays `ALTER TABLE` from its log may stumble over it.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import duckdb

from collector.store.tables import ACCEPTED_TABLE, SNAPSHOTS, TABLES, create_table, sql_columns
from collector.store.views import GENERATIONS, landing, resting

SCHEMA_VERSION = 4
OLD_NAME = "live.duckdb"
"""The hot file's name up to version 1."""


class SchemaUnknown(Exception):
    """The file is of a version that this collector does not know."""


def adopt_old_name(folder: Path, path: Path) -> None:
    """Gives a file of version 1 its new name, its log included."""
    old = folder / OLD_NAME
    if old.exists() and not path.exists():
        duckdb.connect(str(old)).close()  # takes its log in, so that one file is all there is to rename
        old.rename(path)


def migrate(connection: duckdb.DuckDBPyConnection) -> None:
    """Brings the schema to `SCHEMA_VERSION`.

    Raises:
        SchemaUnknown: the file is newer, or not the collector's.
    """
    connection.execute("CREATE SCHEMA IF NOT EXISTS store")
    connection.execute("CREATE SCHEMA IF NOT EXISTS landing")
    connection.execute("CREATE TABLE IF NOT EXISTS store.meta (key VARCHAR, value VARCHAR)")
    row = connection.execute("SELECT value FROM store.meta WHERE key = 'schema_version'").fetchone()
    if row is None:
        connection.execute("INSERT INTO store.meta VALUES ('schema_version', ?)", [str(SCHEMA_VERSION)])
        version = SCHEMA_VERSION
    else:
        version = int(row[0]) if row[0].isdigit() else -1
    if version != SCHEMA_VERSION and version not in _STEPS:
        raise SchemaUnknown(f"the store has schema version {row[0] if row else None}; this collector knows {SCHEMA_VERSION}")
    while version < SCHEMA_VERSION:
        connection.begin()
        _STEPS[version](connection)
        version += 1
        connection.execute("UPDATE store.meta SET value = ? WHERE key = 'schema_version'", [str(version)])
        connection.commit()
    _tables(connection)


def _tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Every table with every column."""
    wanted = {landing(table, generation): table.schema for table in TABLES.values() for generation in GENERATIONS}
    wanted |= {resting(table): table.schema for table in SNAPSHOTS.values()}
    connection.begin()
    for name, schema in wanted.items():
        connection.execute(create_table(name, schema))
        present = {row[0] for row in connection.execute(f"DESCRIBE {name}").fetchall()}
        for column, kind in sql_columns(schema).items():
            if column not in present:
                connection.execute(f'ALTER TABLE {name} ADD COLUMN "{column}" {kind}')
    connection.execute(
        "CREATE TABLE IF NOT EXISTS store.segments (table_name VARCHAR, file VARCHAR, level INTEGER, rows BIGINT, bytes BIGINT, "
        "first_at TIMESTAMPTZ, last_at TIMESTAMPTZ, created_at TIMESTAMPTZ, superseded_at TIMESTAMPTZ)"
    )
    connection.commit()


def _from_1(connection: duckdb.DuckDBPyConnection) -> None:
    """One table each for spans, accepted, ended and content became two that take turns; turns that ended are no longer kept as accepted."""
    views = connection.execute("SELECT view_name FROM duckdb_views() WHERE schema_name = 'main' AND NOT internal").fetchall()
    for (view,) in views:
        connection.execute(f'DROP VIEW IF EXISTS "{view}"')
    first = GENERATIONS[0]
    for name in ("spans", "ended", "content"):
        target = landing(TABLES[name], first)
        connection.execute(create_table(target, TABLES[name].schema))
        connection.execute(f"INSERT INTO {target} BY NAME SELECT * FROM store.{name}")
    connection.execute(create_table("landing.accepted", ACCEPTED_TABLE.schema))
    ended = landing(TABLES["ended"], first)
    connection.execute(
        f"UPDATE {ended} AS e SET deadline_ms = a.deadline_ms FROM store.accepted AS a "
        "WHERE a.turn_id = e.turn_id AND a.started_ns = e.started_ns"
    )
    connection.execute(
        "INSERT INTO landing.accepted BY NAME SELECT * FROM store.accepted AS a "
        f"WHERE NOT EXISTS (SELECT 1 FROM {ended} AS e WHERE e.turn_id = a.turn_id AND e.started_ns = a.started_ns)"
    )
    for name in ("spans", "accepted", "ended", "content"):
        connection.execute(f"DROP TABLE store.{name}")


def _more_rollups(connection: duckdb.DuckDBPyConnection) -> None:
    """Rollups came, which the publisher makes of what is there: those of turns by steps of five minutes, then that of root spans. A collector of before would publish without them: it refuses."""


_STEPS: dict[int, Callable[[duckdb.DuckDBPyConnection], None]] = {1: _from_1, 2: _more_rollups, 3: _more_rollups}
