"""Rows of a result by the names of their columns."""

from __future__ import annotations

from typing import Any

import duckdb


def dicts(cursor: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """All rows of a query that was executed."""
    names = [column[0] for column in cursor.description or ()]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
