"""`python -m benchmarks.alerts.speed`: how long a minute takes to judge, with 40 series and ten million turns in the store's rollups.

The rollups are written as the segments that the collector publishes, a day in each; the collector's own evaluator reads them, judges and writes. Every rule is
judged, not the page's alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
from prometheus_client import CollectorRegistry

from collector.alerts.alerts import Alerts, Wanted
from collector.alerts.detector import REACH
from collector.alerts.evaluator import LATE_MINUTES, Evaluator
from collector.alerts.minutes import counting, read_minutes
from collector.store.segments import Segment
from collector.store.store import Store
from collector.writer import Writer

ROUTES, TIERS, DAYS = 7, 4, 29
TURNS = 10_000_000
TICKS = 30
MINUTE_NS = 60_000_000_000
FIRST = 29_000_160 - 29_000_160 % 1440

_ROLLUP = """
SELECT
    make_timestamptz(minute * 60000000) AS minute, 'route-' || leaf // 4 AS route, 'tier-' || leaf % 4 AS tier, 'model-' || leaf % 4 AS model,
    kind.status AS status, kind.reason AS reason, CASE WHEN kind.broken THEN k ELSE n - k END AS n, CASE WHEN kind.broken THEN k ELSE 0 END AS partials,
    CASE WHEN kind.broken THEN k ELSE 0 END AS broken, 0::BIGINT AS client_left, n AS tools, n AS tools_with_results, n AS sources, 0::BIGINT AS without_source,
    n * 900 AS input_tokens, n * 200 AS output_tokens, n * 1100 AS tokens
FROM counts, (VALUES ('success', NULL, false), ('partial', 'provider_error', true)) AS kind (status, reason, broken)
WHERE CASE WHEN kind.broken THEN k ELSE n - k END > 0 ORDER BY ALL
"""


class Clock:
    """A clock that is set by hand."""

    def __init__(self, ns: int) -> None:
        self.ns = ns

    def __call__(self) -> int:
        """The time in nanoseconds since 1970."""
        return self.ns


def fill(store: Store, writer: Writer) -> None:
    """Writes the rollups of ten million turns, a segment a day."""
    rng = np.random.default_rng(1)
    leaves = ROUTES * TIERS
    with duckdb.connect(":memory:") as connection:
        for day in range(DAYS):
            n = rng.poisson(TURNS / (DAYS * 1440 * leaves), 1440 * leaves)
            minute = np.repeat(FIRST + day * 1440 + np.arange(1440), leaves)
            counts = {"minute": minute, "leaf": np.tile(np.arange(leaves), 1440), "n": n, "k": rng.binomial(n, 0.03)}
            connection.register("counts", pa.table(counts))
            store.number += 1
            target = store.folder.file("turn_minutes", store.number)
            size = store.folder.write(connection, _ROLLUP, target, "turn_minutes")
            first, last = (datetime.fromtimestamp((FIRST + day * 1440 + at) * 60, UTC) for at in (0, 1439))
            segment = Segment("turn_minutes", target.name, 1, len(n), size, first, last)
            writer.call(partial(store.adopt, None, [segment], []))


def _scan(store: Store, evaluator: Evaluator) -> float:
    """Judges the last minute of the page's rule once more; the milliseconds."""
    detector = evaluator.detector("partial_rate")
    last = round(evaluator.judged_at_s) // 60 - 1
    first = last - REACH - LATE_MINUTES
    start = time.perf_counter()
    with store.reading() as reader:
        minutes = read_minutes(reader, first, last)
    detector.load(counting(minutes, "broken"), first, last)
    detector.evidence(last, last, least=0.0)
    return (time.perf_counter() - start) * 1000


def main() -> None:
    """Fills a store, judges some minutes, and prints how long they took."""
    argparse.ArgumentParser(prog="python -m benchmarks.alerts.speed", description=main.__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), memory_limit_mib=2048, threads=2, abandoned_grace_ms=30_000)
        writer = Writer(
            store, queue_rows=1000, commit_rows=1000, commit_wait_ms=1, hot_rows=1000, observe=lambda _appended, _seconds: None
        )
        fill(store, writer)
        clock = Clock((FIRST + DAYS * 1440 - TICKS - 90) * MINUTE_NS)
        alerts = Alerts(store, writer, CollectorRegistry(), Wanted(objective=0.95), clock=clock)
        evaluator = alerts.evaluator
        start = time.perf_counter()
        assert evaluator.tick()
        print(f"learned 28 days in {time.perf_counter() - start:.1f} s, once at a start, in the background")
        took_ms, scan_ms = [], []
        for _ in range(TICKS):
            clock.ns += MINUTE_NS
            start = time.perf_counter()
            assert evaluator.tick()
            took_ms.append((time.perf_counter() - start) * 1000)
            scan_ms.append(_scan(store, evaluator))
        with store.reading() as reader:
            turns = reader.execute("SELECT sum(n) FROM turn_minutes").fetchone()
        paged = sum(one.rule == "partial_rate" for one in evaluator.judged)
        series = sum(one.turns is not None for one in evaluator.judged)
        print(f"{turns[0] if turns else 0:,} turns stored; {paged} series of partial_rate, {series} of all rules")
        print(f"partial_rate alone, its minutes read, loaded and judged: median {statistics.median(scan_ms):.0f} ms")
        print(f"all rules, read, judged and written: median {statistics.median(took_ms):.0f} ms, slowest {max(took_ms):.0f} ms")
        alerts.close()
        writer.close()
        store.close()


if __name__ == "__main__":
    main()
