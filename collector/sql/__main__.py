"""`python -m collector.sql CATALOG`: runs one query, read from standard input, on a catalog file. `lastword sql --catalog` runs it; no collector is asked.

Writes the result to standard output. Ends with status 1 and a sentence on standard error where the query fails, with 2 where the file cannot be opened.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

import duckdb

from collector.sql.surface import Format, Query, QueryError, run_on


def main() -> int:
    """Runs the query; the exit status."""
    parser = argparse.ArgumentParser(description="Runs a query on a catalog.")
    parser.add_argument("catalog", type=Path)
    parser.add_argument("--format", choices=get_args(Format), default="json")
    parser.add_argument("--max-rows", type=int, default=1000)
    parser.add_argument("--timeout-ms", type=int, default=10_000)
    chosen = parser.parse_args()
    query = Query(sql=sys.stdin.read(), format=chosen.format, max_rows=chosen.max_rows, timeout_ms=chosen.timeout_ms)
    try:
        with duckdb.connect(str(chosen.catalog), read_only=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute("BEGIN TRANSACTION READ ONLY")
            result = run_on(connection, query)
    except QueryError as error:
        print(error.detail, file=sys.stderr)
        return 1
    except duckdb.Error as error:
        print(f"{chosen.catalog} cannot be read: {error}", file=sys.stderr)
        return 2
    sys.stdout.buffer.write(result.body)
    if result.truncated and chosen.format != "json":
        print(f"only the first {result.rows} rows are given", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
