"""`python -m collector.sql CATALOG`: runs one query, read from standard input, on a catalog file, or with `--lake` on the lake. `lastword sql` runs it; no collector is asked.

Writes the result to standard output. Ends with status 1 and a sentence on standard error where the query fails, with 2 where the file cannot be opened.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import duckdb

from collector.lake.reading import Unreadable, lake_reader
from collector.sql.surface import Format, Query, QueryError, run_on


@contextmanager
def _catalog(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The catalog, opened to be read.

    Raises:
        Unreadable: it cannot be opened.
    """
    try:
        connection = duckdb.connect(str(path), read_only=True)
    except duckdb.Error as error:
        raise Unreadable(f"{path} cannot be read: {error}") from error
    with connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def main() -> int:
    """Runs the query; the exit status."""
    parser = argparse.ArgumentParser(description="Runs a query on a catalog.")
    parser.add_argument("catalog", type=Path, nargs="?")
    parser.add_argument("--lake", action="store_true")
    parser.add_argument("--format", choices=get_args(Format), default="json")
    parser.add_argument("--max-rows", type=int, default=1000)
    parser.add_argument("--timeout-ms", type=int, default=10_000)
    chosen = parser.parse_args()
    if (chosen.catalog is None) is not chosen.lake:
        parser.error("a catalog, or --lake")
    query = Query(sql=sys.stdin.read(), format=chosen.format, max_rows=chosen.max_rows, timeout_ms=chosen.timeout_ms)
    try:
        with lake_reader() if chosen.lake else _catalog(chosen.catalog) as connection:
            connection.execute("BEGIN TRANSACTION READ ONLY")
            result = run_on(connection, query)
    except QueryError as error:
        print(error.detail, file=sys.stderr)
        return 1
    except Unreadable as error:
        print(error, file=sys.stderr)
        return 2
    sys.stdout.buffer.write(result.body)
    if result.truncated and chosen.format != "json":
        print(f"only the first {result.rows} rows are given", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
