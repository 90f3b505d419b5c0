"""How much is stored and how fresh it is: asked every few seconds by every open page, so it reads what landed and what is noted of each segment, and no segment twice."""

from __future__ import annotations

from typing import Any

import duckdb

from collector.store.segments import Folder, quoted
from collector.store.tables import TABLES
from collector.store.views import GENERATIONS, landing

_SEGMENTS = "SELECT table_name, file, rows, epoch_us(last_at) FROM store.segments WHERE superseded_at IS NULL AND table_name IN ('ended', 'spans')"
_TOLD = "pending IS NOT true"
"""Of spans that are sent before they end, only the end counts."""


class Freshness:
    """Remembers how many spans of each segment count: segments never change. One thread at a time."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._spans: dict[str, int] = {}

    def read(self, reader: duckdb.DuckDBPyConnection) -> dict[str, Any]:
        """Turns, spans, the newest turn's end in nanoseconds (none of no turns), and turns that run now, as a reader of the store sees them."""
        segments = reader.execute(_SEGMENTS).fetchall()
        ended, spans = _landed("ended"), _landed("spans")
        landed = reader.execute(
            f"SELECT (SELECT count(*) FROM {ended}), (SELECT max(ended_ns) FROM {ended}), (SELECT count(*) FROM {spans} WHERE {_TOLD}), "
            "(SELECT count(*) FROM open_turns)"
        ).fetchone()
        turns, newest_ns, told, open_turns = landed or (0, None, 0, 0)
        times = [last_us * 1000 for table, _, _, last_us in segments if table == "ended" and last_us is not None]
        files = [file for table, file, _, _ in segments if table == "spans"]
        self._spans = {file: self._spans[file] if file in self._spans else self._count(reader, file) for file in files}
        return {
            "turns": turns + sum(rows for table, _, rows, _ in segments if table == "ended"),
            "spans": told + sum(self._spans.values()),
            "newestEndedNs": max([*times, *([] if newest_ns is None else [newest_ns])], default=None),
            "openTurns": open_turns,
        }

    def _count(self, reader: duckdb.DuckDBPyConnection, file: str) -> int:
        paths = f"[{quoted(self._folder.empty('spans'))}, {quoted(self._folder.path / file)}]"  # a column that the file lacks is null
        row = reader.execute(f"SELECT count(*) FROM read_parquet({paths}, union_by_name = true) WHERE {_TOLD}").fetchone()
        return int(row[0]) if row else 0


def _landed(table: str) -> str:
    return f"({' UNION ALL '.join(f'SELECT * FROM {landing(TABLES[table], generation)}' for generation in GENERATIONS)})"
