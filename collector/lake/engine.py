"""DuckDB with DuckLake: the extensions from their wheels, and the lake attached. Nothing is fetched from the network.

Both extensions are Python packages of their own (`lastword[ducklake]`), each with a file for the DuckDB that it was built for, which is loaded by its path.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import duckdb

from collector.lake.dsn import Dsn, LakeUnusable
from collector.store.segments import quoted

SCHEMA = "lastword_lake"
"""The schema of PostgreSQL that has the lake's catalog."""
_EXTENSIONS = ("ducklake", "postgres_scanner")
MAX_RETRIES = 100
"""How often DuckLake tries a commit whose number another one took."""
WRITER_MIB = 512


def extension_file(name: str) -> Path:
    """Where an extension for this DuckDB lies.

    Raises:
        LakeUnusable: it is not installed, or only for another DuckDB.
    """
    package = f"duckdb_extension_{name}"
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise LakeUnusable(
            f"the lake needs the package {package.replace('_', '-')}=={duckdb.__version__}: install lastword[ducklake]"
        )
    file = Path(spec.origin).parent / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
    if not file.exists():
        raise LakeUnusable(f"the package {package.replace('_', '-')} has no extension for DuckDB {duckdb.__version__}")
    return file


def check_extensions() -> None:
    """Finds out before anything runs.

    Raises:
        LakeUnusable: an extension is missing.
    """
    for name in _EXTENSIONS:
        extension_file(name)


def attach(dsn: Dsn, application: str, *, write: bool = False, data_path: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A connection of its own whose database is the lake. It is made where there is none and a data path is told.

    Raises:
        LakeUnusable: an extension is missing, or the lake cannot be reached. No message of a later error holds the connection string.
    """
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "python_enable_replacements": "false",
    }
    if write:
        config |= {"threads": "1", "memory_limit": f"{WRITER_MIB}MiB"}
    connection = duckdb.connect(":memory:", config=config)
    text = dsn.text(application)
    try:
        for name in _EXTENSIONS:
            connection.execute(f"LOAD {quoted(extension_file(name))}")
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"SET ducklake_max_retry_count = {MAX_RETRIES}")
        how = "DATA_INLINING_ROW_LIMIT 0" if write else "READ_ONLY"
        if data_path is not None:
            how += f", DATA_PATH {quoted(data_path)}"
        connection.execute(f"ATTACH {quoted(f'ducklake:postgres:{text}')} AS lake (METADATA_SCHEMA {quoted(SCHEMA)}, {how})")
        connection.execute("USE lake")
    except duckdb.Error as error:
        connection.close()
        message = dsn.hide(str(error).replace(text, dsn.shown()))
        raise LakeUnusable(f"the lake cannot be attached: {message}") from None  # the cause would be printed with its password
    except BaseException:
        connection.close()
        raise
    return connection
