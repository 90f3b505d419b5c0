"""The views that people query, made over the hot file and segments (live), or over segments alone (catalog). Pure: returns SQL.

Base views `store.*` have the published columns of each table; `views.sql` builds everything else on them, so live and catalog cannot differ in what a word means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from collector.store.rollups import ROLLUPS
from collector.store.tables import SNAPSHOTS, TABLES, Table

GENERATIONS = ("a", "b")
Files = Callable[[str], str]
"""Table name to an SQL expression of its list of files."""
Columns = dict[str, dict[str, str]]
"""Table name to its segments' columns and their types."""


def landing(table: Table, generation: str) -> str:
    """Where rows of a table land."""
    return f"landing.{table.name}_{generation}"


def resting(table: Table) -> str:
    """Where rows of a table that is published as a whole lie."""
    return f"landing.{table.name}"


def published(table: Table, source: str) -> str:
    """The published rows of what has landed in a relation."""
    return f"SELECT {table.typed()} FROM {source}"


def base_views(files: Files, columns: Columns, *, live: bool) -> list[str]:
    """The statements that make `store.*`. `columns` are those of each table's segments."""
    statements = []
    for table in TABLES.values():
        parts = [_read(files, table.name, columns)]
        if live:
            parts += [published(table, landing(table, generation)) for generation in GENERATIONS]
        statements.append(view(table.name, " UNION ALL ".join(parts)))
    statements += [
        view(table.name, published(table, resting(table)) if live else _read(files, table.name, columns))
        for table in SNAPSHOTS.values()
    ]
    statements += abandoned_views(columns["ended"])
    for rollup in ROLLUPS.values():
        table = TABLES[rollup.source]
        parts = [_read(files, rollup.name, columns)]
        if table.name == "ended":
            parts.append(rollup.of("store.abandoned"))
        if live:
            parts += [rollup.of(f"({published(table, landing(table, generation))})") for generation in GENERATIONS]
        rows = " UNION ALL BY NAME ".join(parts)
        statements.append(view(rollup.name, rollup.added(f"({rows})") if rollup.unique else rows))
    return statements


def abandoned_views(ended: Mapping[str, str]) -> list[str]:
    """The statement that makes `store.abandoned` over `store.accepted`, with the columns of a turn that ended."""
    nothing = ", ".join(f'CAST(NULL AS {kind}) AS "{column}"' for column, kind in ended.items())
    return [statement.replace("$nothing", f"SELECT {nothing}") for statement in _script("abandoned.sql")]


def people_views() -> list[str]:
    """The statements that make the views of the docs."""
    return _script("views.sql")


def with_grace(statements: list[str], grace_ms: int) -> list[str]:
    """The statements, with how long behind its deadline a turn becomes abandoned."""
    return [statement.replace("$grace_ms", str(grace_ms)) for statement in statements]


def _read(files: Files, name: str, columns: Columns) -> str:
    listed = ", ".join(f'"{column}"' for column in columns[name])
    return f"SELECT {listed} FROM read_parquet({files(name)}, union_by_name = true)"


def view(name: str, query: str) -> str:
    """The statement that makes a base view."""
    return f"CREATE OR REPLACE VIEW store.{name} AS {query}"


def _script(name: str) -> list[str]:
    text = (Path(__file__).parent / name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [statement.strip() for statement in "\n".join(lines).split(";\n") if statement.strip()]
