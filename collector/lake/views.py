"""The views of the lake: the same words as in the catalog of one collector, over the rows of all of them. Pure: returns SQL.

What one collector stores it stores once, but a sender whose collector died sends again to another one. So each base view takes one of the rows that are the same
row. The same row has the same times wherever it was stored; they stand in the partitions of the windows, so that a range of time in a query is read alone.
"""

from __future__ import annotations

from collections.abc import Iterable

from collector.store.rollups import ROLLUPS
from collector.store.tables import SNAPSHOTS, TABLES
from collector.store.views import Columns, abandoned_views, people_views, view, with_grace

SEGMENTS = "segments"
"""The schema of the tables whose files are segments."""

_KEYS = {
    "spans": "started_at, trace_id, span_id",
    "content": "ended_at, turn_id",
    "violations": "ended_at, turn_id, trace_id, rule",
}
# A record is the same wherever it is sent. A turn made of spans is what its collector saw of the trace: the longest is kept.
_COPIES = (
    "SELECT {names}, row_number() OVER (PARTITION BY ended_at, started_at, turn_id ORDER BY deadline_ms NULLS LAST) AS copy "
    "FROM segments.ended WHERE origin IS DISTINCT FROM 'spans' "
    "UNION ALL SELECT {names}, row_number() OVER (PARTITION BY turn_id ORDER BY ended_at - started_at DESC, ended_at) AS copy "
    "FROM segments.ended WHERE origin = 'spans'"
)


def lake_views(columns: Columns, grace_ms: int) -> list[str]:
    """The statements that make every view. `columns` are those of each table's segments."""
    statements = []
    for name in TABLES:
        if name == "ended":
            copies = _COPIES.replace("{names}", _names(columns[name]))
            statements.append(view("ended", f"SELECT {_names(columns[name])} FROM ({copies}) WHERE copy = 1"))
            statements.append(view("doubled", f"SELECT {_names(columns[name])} FROM ({copies}) WHERE copy > 1"))
        else:
            statements.append(view(name, _once(name, columns[name], _KEYS[name])))
    for name in SNAPSHOTS:
        if name == "accepted":
            # The terminal may have come to another collector, which cannot take the turn out here.
            open_here = "NOT EXISTS (SELECT 1 FROM segments.ended AS e WHERE e.turn_id = accepted.turn_id)"
            statements.append(view(name, _once(name, columns[name], "turn_id", where=open_here)))
        else:
            statements.append(view(name, f"SELECT {_names(columns[name])} FROM segments.{name}"))
    statements += abandoned_views(columns["ended"])
    for rollup in ROLLUPS.values():
        if rollup.source == "spans":  # a span that came to two collectors is counted twice
            statements.append(view(rollup.name, f"SELECT {_names(columns[rollup.name])} FROM segments.{rollup.name}"))
            continue
        less = ", ".join(f"-{name} AS {name}" for name in rollup.sums)
        parts = [
            f"SELECT {_names(columns[rollup.name])} FROM segments.{rollup.name}",
            rollup.of("store.abandoned"),
            # What a collector counted of a turn that is counted elsewhere is taken off again.
            f"SELECT {', '.join(rollup.keys)}, {less} FROM ({rollup.of('store.doubled')})",
        ]
        added = rollup.added(f"({' UNION ALL BY NAME '.join(parts)})")
        counted = " OR ".join(f"{name} <> 0" for name in rollup.sums)
        statements.append(view(rollup.name, f"SELECT * FROM ({added}) WHERE {counted}"))
    return with_grace([*statements, *people_views()], grace_ms)


def _once(name: str, columns: Iterable[str], keys: str, *, where: str = "true") -> str:
    return f"SELECT {_names(columns)} FROM segments.{name} WHERE {where} QUALIFY row_number() OVER (PARTITION BY {keys}) = 1"


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f'"{column}"' for column in columns)
