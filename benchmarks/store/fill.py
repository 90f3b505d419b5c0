"""A large store, quickly: some thousand turns take the product's own road, then their segments are copied with other ids and other times.

The copies are written by the engine in the form in which the publisher writes segments, with rollups made by the publisher's own queries, and recorded in the hot file as a backup's are. So
everything but the way in is what a collector would have made of ten million turns.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from msgspec import structs

from collector.db import generate
from collector.db.backup import record
from collector.db.opening import catalog, segments_of, whole
from collector.settings import CollectorSettings
from collector.store.rollups import ROLLUPS
from collector.store.segments import Folder, literal, quoted
from collector.store.tables import TABLES

BASE_TURNS = 20_000
FILE_TURNS = 500_000
Tell = Callable[[str], None]


def fill(folder: Path, turns: int, days: float, span_days: float, tell: Tell) -> None:
    """Makes a data folder with so many turns over so many days up to now; their spans for the last `span_days`."""
    copies = max(1, turns // BASE_TURNS)
    base = folder.with_name(folder.name + "-base")
    shutil.rmtree(base, ignore_errors=True)
    settings = CollectorSettings(data_dir=str(base))
    tell(f"loading {BASE_TURNS:,} turns down the senders' road")
    now = datetime.now(UTC)
    wanted = generate.Wanted(turns=BASE_TURNS, days=days / copies, seed=7, end=now)
    with whole(settings, every_ms=settings.publish_ms) as held:
        generate.into_store(held, settings, wanted, lambda _turns: None)
    with catalog(settings.store_path) as connection:
        sources = segments_of(connection)
    made = structs.replace(settings, data_dir=str(folder.with_name(folder.name + ".unfinished")))
    shutil.rmtree(made.data_path, ignore_errors=True)
    target = Folder(made.store_path / "segments")
    segments = _copy(sources, target, copies, days * 86_400 / copies, span_days * 86_400, tell)
    tell("recording the segments")
    record(made, segments)
    made.data_path.rename(folder)
    with whole(structs.replace(settings, data_dir=str(folder))) as held:
        held.publisher.round()
    shutil.rmtree(base)


def _copy(
    sources: dict[str, list[Path]], target: Folder, copies: int, step_s: float, span_s: float, tell: Tell
) -> dict[str, list[Path]]:
    made: dict[str, list[Path]] = {name: [] for name in (*TABLES, *ROLLUPS)}
    number = 0
    a_file = max(1, FILE_TURNS // BASE_TURNS)
    with duckdb.connect(":memory:", config={"temp_directory": str(target.path / "tmp")}) as connection:
        connection.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = true")
        for first in range(0, copies, a_file):
            last = min(copies, first + a_file)
            tell(f"copies {first} to {last} of {copies}")
            moved = ["ended", "spans"] if first * step_s < span_s else ["ended"]
            for name in moved:
                number += 1
                query = _moved(name, sources[name], first, last, step_s)
                path = target.file(name, number)
                target.write(connection, f"SELECT * FROM ({query}) ORDER BY {TABLES[name].order}", path, name)
                made[name].append(path)
            for rollup in ROLLUPS.values():
                if rollup.source not in moved:
                    continue
                number += 1
                path = target.file(rollup.name, number)
                rows = f"read_parquet({quoted(made[rollup.source][-1])})"
                target.write(connection, rollup.sorted(rollup.of(rows)), path, rollup.name)
                made[rollup.name].append(path)
    shutil.rmtree(target.path / "tmp", ignore_errors=True)
    return made


def _moved(name: str, files: list[Path], first: int, last: int, step_s: float) -> str:
    """Copies of rows, each with ids of its own and so much earlier than the one before."""
    other = "md5({0} || ':' || copy)"
    changed = {
        "turn_id": f"CASE WHEN turn_id IS NOT NULL THEN 'trn_' || {other.format('turn_id')} END",
        "trace_id": other.format("trace_id"),
        "span_id": f"left({other.format('span_id')}, 16)",
        "conversation_id": f"CASE WHEN conversation_id IS NOT NULL THEN 'cnv_' || {other.format('conversation_id')} END",
        "started_at": f"started_at - to_microseconds(CAST(copy * {step_s} * 1e6 AS BIGINT))",
    }
    if name == "spans":
        changed["parent_span_id"] = f"left({other.format('parent_span_id')}, 16)"
    else:
        changed["ended_at"] = changed["started_at"].replace("started_at", "ended_at")
    replaced = ", ".join(f"{text} AS {column}" for column, text in changed.items())
    return f"SELECT * EXCLUDE (copy) REPLACE ({replaced}) FROM read_parquet({literal(files)}) CROSS JOIN range({first}, {last}) AS c(copy)"
