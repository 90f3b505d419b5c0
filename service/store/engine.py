"""Opening the database and bringing it to the newest schema.

SQLite runs in WAL mode with full synchronisation: what is committed survives a power cut. A transaction that writes begins as a writer, so
that two of them queue instead of failing half way.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

BUSY_TIMEOUT_MS = 10_000
CHECKPOINT_PAGES = 8_000
"""Pages in SQLite's log before they are moved into the database, about 32 MB: a checkpoint holds up every stream, so there are few."""
POOL_SIZE = 8
POOL_OVERFLOW = 24
POOL_WAIT_S = 10.0
READ_ONLY = {"lastword_read_only": True}
"""Execution options of a transaction that will not write."""
FAST = {"lastword_fast": True}
"""Execution options of a transaction whose commit has to survive the process, not a power cut: it waits for no disk."""


AWAY = (OperationalError, InterfaceError, PoolTimeout)
"""Errors of a database that may come back."""


class StoreError(Exception):
    """The database cannot be used. The message says why, for the operator."""


def open_engine(url: str) -> Engine:
    """An engine for the URL; for SQLite the folder is made and the file is set up."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(
        parsed, pool_size=POOL_SIZE, max_overflow=POOL_OVERFLOW, pool_timeout=POOL_WAIT_S, pool_pre_ping=not _is_sqlite(url)
    )
    if _is_sqlite(url):
        event.listen(engine, "connect", _set_up_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "begin", _begin_postgresql)
    return engine


def _is_sqlite(url: str) -> bool:
    return make_url(url).get_backend_name() == "sqlite"


def _set_up_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun below, not by the driver
    cursor = connection.cursor()
    pragmas = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON")
    for pragma in (*pragmas, f"busy_timeout={BUSY_TIMEOUT_MS}", f"wal_autocheckpoint={CHECKPOINT_PAGES}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    options = connection.get_execution_options()
    if options.get("lastword_read_only", False):
        connection.exec_driver_sql("BEGIN")
        return
    wanted = "NORMAL" if options.get("lastword_fast", False) else "FULL"
    if connection.info.get("synchronous", "FULL") != wanted:
        connection.exec_driver_sql(f"PRAGMA synchronous={wanted}")
        connection.info["synchronous"] = wanted
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get("lastword_fast", False):
        connection.exec_driver_sql("SET LOCAL synchronous_commit = off")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def migrate(engine: Engine) -> None:
    """Brings the schema to the newest revision.

    Raises:
        StoreError: the database was written by a newer version of the service.
    """
    config = _config()
    script = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        if current == script.get_current_head():
            return
        if current is not None and current not in {revision.revision for revision in script.walk_revisions()}:
            raise StoreError(f"the database is at revision {current}, which this version of the service does not know")
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
