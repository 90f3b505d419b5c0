"""Whether a store is whole: every file is there and can be read to its last page, no row stands twice, and what was counted and noted of rows is so.

Reads the catalog, so a collector may run meanwhile; what only the hot file knows is compared where nobody else holds it. Changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path

import duckdb

from collector.db.opening import segments_of
from collector.store.retention import Keep
from collector.store.rollups import ROLLUPS
from collector.store.segments import literal, quoted
from collector.store.store import Store
from collector.store.tables import TABLES

MAX_PROBLEMS = 50
Tell = Callable[[str], None]


def problems_of_catalog(connection: duckdb.DuckDBPyConnection, keep: Keep, now: datetime, tell: Tell) -> Iterator[str]:
    """What is wrong with what is published, a sentence each."""
    segments = segments_of(connection)
    broken = False
    for table, files in segments.items():
        if files:
            tell(f"reading {len(files)} segments of {table}")
        for file in files:
            if (problem := _unreadable(connection, file)) is not None:
                broken = True
                yield problem
    if broken:
        return  # what follows reads all files of a table at once
    for one in TABLES.values():
        if segments.get(one.name):
            tell(f"looking for rows of {one.name} that stand twice")
            yield from _doubled(connection, one.name, one.keys, segments[one.name])
    tell("comparing the counts by the minute with the turns")
    yield from _miscounted(connection, keep, now)
    if "turn_roots" in segments:  # an older collector's catalog knows none
        tell("comparing the noted root spans with the spans")
        yield from _misnoted(connection, keep, now)


def _unreadable(connection: duckdb.DuckDBPyConnection, file: Path) -> str | None:
    if not file.exists():
        return f"{file.name} is missing"
    try:
        # A hash of every value decompresses every page, which count(*) does not.
        connection.execute(f"SELECT bit_xor(hash(COLUMNS(*))) FROM read_parquet({quoted(file)})").fetchone()
    except duckdb.Error as error:
        return f"{file.name} cannot be read: {str(error).splitlines()[0]}"
    return None


def _doubled(connection: duckdb.DuckDBPyConnection, name: str, keys: tuple[str, ...], files: list[Path]) -> Iterator[str]:
    row = connection.execute(
        f"SELECT count(*), any_value(key) FROM (SELECT concat_ws(' ', {', '.join(keys)}) AS key FROM read_parquet({literal(files)}, union_by_name = true) "
        f"GROUP BY {', '.join(keys)} HAVING count(*) > 1)"
    ).fetchone()
    if row and row[0]:
        yield f"{row[0]} rows of {name} stand more than once, one of them {row[1]}"


def _miscounted(connection: duckdb.DuckDBPyConnection, keep: Keep, now: datetime) -> Iterator[str]:
    """Minutes whose turns are all still there have as many turns as were counted. Counts and turns are kept for times of their own: other minutes are passed over."""
    borders = [border for border in (keep.border("ended", now), keep.border("turn_minutes", now)) if border is not None]
    since = max(borders) + timedelta(days=1) if borders else None
    rows = connection.execute(
        "WITH turns AS (SELECT date_trunc('minute', ended_at) AS minute, count(*) AS n FROM store.ended GROUP BY 1), "
        "lost AS (SELECT date_trunc('minute', ended_at) AS minute, count(*) AS n FROM store.abandoned GROUP BY 1), "
        "counted AS (SELECT minute, sum(n) AS n FROM store.turn_minutes GROUP BY 1) "
        "SELECT minute::VARCHAR, coalesce(counted.n, 0)::BIGINT, (coalesce(turns.n, 0) + coalesce(lost.n, 0))::BIGINT FROM counted "
        "FULL JOIN turns USING (minute) LEFT JOIN lost USING (minute) "
        "WHERE coalesce(counted.n, 0) <> coalesce(turns.n, 0) + coalesce(lost.n, 0) "
        "AND minute > (SELECT date_trunc('minute', min(ended_at)) FROM store.ended) AND minute >= coalesce(?, minute) "
        f"ORDER BY 1 LIMIT {MAX_PROBLEMS}",
        [since],
    ).fetchall()
    for minute, counted, turns in rows:
        yield f"turn_minutes counts {counted} turns in the minute {minute}, and there are {turns}"


def _misnoted(connection: duckdb.DuckDBPyConnection, keep: Keep, now: datetime) -> Iterator[str]:
    """Root spans are noted by steps. Of what is so old that it goes, or was to go once, either may be there without the other."""
    border = keep.border("spans", now)
    row = connection.execute(
        f"SELECT count(*), any_value(turn_id) FROM ({ROLLUPS['turn_roots'].of('store.spans')}) AS present "
        "FULL JOIN (SELECT step, turn_id, sum(n) AS n FROM store.turn_roots GROUP BY ALL) AS noted USING (step, turn_id) "
        "WHERE coalesce(present.n, 0) <> coalesce(noted.n, 0) AND step >= coalesce(?, step) "
        "AND step > coalesce((SELECT min(step) FROM store.turn_roots), '-infinity')",
        [None if border is None else border + timedelta(days=1)],
    ).fetchone()
    if row and row[0]:
        yield f"turn_roots is wrong about {row[0]} turns, one of them {row[1]}"


def problems_of_store(store: Store, published: set[str]) -> Iterator[str]:
    """Where the hot file, the files and the catalog disagree. `published` are the names of the files behind the catalog."""
    recorded = {segment.file: segment for segment, _ in store.segments()}
    superseded = {segment.file for segment, _ in store.segments(superseded=True)}
    present = {path.name: path for path in store.folder.path.iterdir() if not path.name.endswith("-empty.parquet")}
    for file, segment in recorded.items():
        if file not in present:
            yield f"{file} is missing, with {segment.rows} rows of {segment.table}"
        elif (size := present[file].stat().st_size) != segment.bytes:
            yield f"{file} has {size} bytes, and {segment.bytes} were written"
    if strangers := sorted(present.keys() - recorded.keys() - superseded):
        yield f"{len(strangers)} files belong to no record, {strangers[0]} among them; the collector removes them at its start"
    if published != recorded.keys():
        yield "the catalog shows other segments than the hot file records; the collector writes it anew at its start"
