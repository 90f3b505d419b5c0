"""Rows on their way into the store: one by one, or as an Arrow table. Pure, and without the engine, so that it is quick to import."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, cast

import pyarrow as pa

Row: TypeAlias = dict[str, Any]
"""A row by column; a column that it does not have is null."""
Ordered: TypeAlias = tuple[Any, ...]
"""A row with every column of its table, in their order: what spans are, because they are many."""
Batch: TypeAlias = Sequence[Row] | Sequence[Ordered] | pa.Table
"""Rows of one table, all of one kind."""


def table_of(rows: Sequence[Row | Ordered], schema: pa.Schema) -> pa.Table:
    """Rows as columns."""
    if rows and isinstance(rows[0], tuple):
        values: Iterable[Sequence[Any]] = zip(*rows, strict=True)
    else:
        values = ([row.get(name) for row in cast("Sequence[Row]", rows)] for name in schema.names)
    columns = [pa.array(column, kind) for column, kind in zip(values, schema.types, strict=True)]
    return pa.Table.from_arrays(columns, schema=schema)
