"""`python -m benchmarks.lake`: registrations a second, how long one takes, and what reading across collectors costs, on a PostgreSQL of Debian's on loopback.

Collectors are threads here that register as a collector does (`collector.lake.lake.Lake`), each its own small segments: what is measured is the catalog, not the taking of spans.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb

from collector.lake.dsn import Dsn
from collector.lake.engine import attach
from collector.lake.lake import Lake, Shape
from collector.store.publisher import FAN_IN
from collector.store.segments import quoted
from collector.store.store import Store
from tests.support.postgres import postgres

TABLES = ("spans", "ended", "content", "turn_minutes", "stage_minutes", "accepted")
"""What a collector under load publishes between two registrations."""


def main() -> None:
    """Prints a table for each question."""
    parser = argparse.ArgumentParser(description="Measures the lake.")
    parser.add_argument("--collectors", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--turns", type=int, default=1_000_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, postgres(durable=True) as url:
        folder = Path(name)
        store = Store(folder / "shape", memory_limit_mib=512, threads=2, abandoned_grace_ms=0)
        shape = Shape(store.columns, {table: store.folder.empty(table) for table in store.columns}, 0)
        store.close()
        dsn = Dsn(url)
        print("| collectors at once | registrations/s | median ms | worst ms |\n|---|---|---|---|")
        templates = {table: _one_row(shape.empty[table], folder / f"{table}.parquet") for table in TABLES}
        for count in chosen.collectors:
            folders = [folder / f"{count}-{number}" for number in range(count)]
            lakes = [Lake(dsn, folder / "lake", folder=one, collector=one.name, shape=shape) for one in folders]
            took = _at_once(lakes, folders, templates, chosen.seconds)
            print(
                f"| {count} | {len(took) / chosen.seconds:.1f} | {statistics.median(took) * 1000:.0f} | {max(took) * 1000:.0f} |"
            )
        _reading(dsn, folder, shape, chosen.turns)


def _at_once(lakes: list[Lake], folders: list[Path], templates: dict[str, Path], seconds: float) -> list[float]:
    """How long each registration took, of so many collectors that do nothing else."""
    took: list[float] = []
    for lake in lakes:
        lake.register({})
    end = time.monotonic() + seconds

    def work(lake: Lake, folder: Path) -> None:
        for wanted in _rounds(folder, templates):
            start = time.monotonic()
            if start >= end:
                return
            lake.register(wanted)
            took.append(time.monotonic() - start)

    threads = [threading.Thread(target=work, args=pair) for pair in zip(lakes, folders, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lake in lakes:
        lake.leave()
        lake.close()
    return took


def _rounds(folder: Path, templates: dict[str, Path]) -> Iterator[dict[str, set[str]]]:
    """What counts, round after round: a new file of each table, the open turns in place of those of before, and ten of a table become one."""
    wanted: dict[str, set[str]] = {}
    folder.mkdir()
    for number in range(100_000):
        for table in TABLES:
            file = folder / f"{table}-{number:010d}.parquet"
            shutil.copyfile(templates[table], file)
            keep = wanted.get(table, set())
            wanted[table] = {str(file)} if table == "accepted" or len(keep) >= FAN_IN else {*keep, str(file)}
        yield {table: set(files) for table, files in wanted.items()}


def _one_row(empty: Path, file: Path) -> Path:
    """A file of a table with one row of nulls."""
    with duckdb.connect(":memory:") as connection:
        connection.execute(
            f"COPY (SELECT e.* FROM (SELECT 1) LEFT JOIN read_parquet({quoted(empty)}) AS e ON true) TO {quoted(file)} (FORMAT parquet)"
        )
    return file


_TURNS = (
    "SELECT e.* REPLACE ('trn_' || md5(i::VARCHAR) AS turn_id, make_timestamptz(1700000000000000 + i * 1000000) AS started_at, "
    "make_timestamptz(1700000003000000 + i * 1000000) AS ended_at, 'record' AS origin, 'done' AS terminal, 'knowledge' AS route, "
    "i % 5000 AS total_ms) FROM range({first}, {last}) AS r(i) LEFT JOIN read_parquet({empty}) AS e ON true"
)
_ASKED = {
    "how many turns": "SELECT count(*) FROM {turns}",
    "one hour": "SELECT count(*), avg(total_ms) FROM {turns} WHERE ended_at >= '2023-11-15 10:00:00Z' AND ended_at < '2023-11-15 11:00:00Z'",
    "one turn by its id": "SELECT * FROM {turns} WHERE turn_id = 'trn_' || md5('77777')",
    "by route, all time": "SELECT route, avg(total_ms) FROM {turns} GROUP BY ALL",
}


def _reading(dsn: Dsn, folder: Path, shape: Shape, turns: int) -> None:
    """Queries of the view that takes each row once, beside the rows as they lie; a hundredth of the turns were sent to both collectors."""
    halves = {"left": (0, turns // 2), "right": (turns // 2 - turns // 100, turns)}
    for name, (first, last) in halves.items():
        file = folder / name / "ended-0000000001.parquet"
        file.parent.mkdir()
        with duckdb.connect(":memory:") as connection:
            connection.execute("SET TimeZone = 'UTC'")
            query = _TURNS.format(first=first, last=last, empty=quoted(shape.empty["ended"]))
            connection.execute(f"COPY ({query}) TO {quoted(file)} (FORMAT parquet, COMPRESSION zstd)")
        lake = Lake(dsn, folder / "lake", folder=file.parent, collector=name, shape=shape)
        lake.register({"ended": {str(file)}})
        lake.close()
    print(f"\n| {turns:,} turns of two collectors | each once, ms | as they lie, ms |\n|---|---|---|")
    with attach(dsn, "benchmark") as connection:
        for text, query in _ASKED.items():
            times = [_best(connection, query.format(turns=name)) for name in ("turns", "segments.ended")]
            print(f"| {text} | {times[0]:.0f} | {times[1]:.0f} |")


def _best(connection: duckdb.DuckDBPyConnection, query: str) -> float:
    """The quickest of three."""
    took = []
    for _ in range(3):
        start = time.monotonic()
        connection.execute(query).to_arrow_table()
        took.append((time.monotonic() - start) * 1000)
    return min(took)


if __name__ == "__main__":
    main()
