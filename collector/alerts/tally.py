"""Counters of turns for Prometheus, taken from the rollups: by status, and by reason where they broke.

A counter only grows, and late turns grow it too: the minutes of the last hours are read anew each time, and what is new in them is added. Turns from before the start are not counted,
as with any counter.
"""

from __future__ import annotations

import duckdb
from prometheus_client import CollectorRegistry, Counter

from lastword.events import CompletionStatus, Reason

SEEN_MINUTES = 130
"""Minutes that are looked at again for turns that came late."""
_NO_REASON = "none"
_READ = """
SELECT epoch_us(minute) // 60000000, status, coalesce(reason, 'none'), CAST(sum(n) AS BIGINT), CAST(sum(broken) AS BIGINT)
FROM turn_minutes WHERE minute >= make_timestamptz(CAST($first AS BIGINT) * 60000000) AND status IS NOT NULL GROUP BY ALL
"""


class Tally:
    """`lastword_turns_total` by status and `lastword_turns_broken_total` by reason."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._turns = Counter("lastword_turns", "Turns that ended.", ["status"], registry=registry)
        self._broken = Counter(
            "lastword_turns_broken", "Turns that broke on our side of the wire.", ["reason"], registry=registry
        )
        for status in (*CompletionStatus, "error", "abandoned"):
            self._turns.labels(str(status))
        for reason in (*Reason, _NO_REASON):
            self._broken.labels(str(reason))
        self._seen: dict[tuple[int, str, str], tuple[int, int]] | None = None

    def update(self, reader: duckdb.DuckDBPyConnection, minute: int) -> None:
        """Adds what ended since the last time, up to now."""
        first = minute - SEEN_MINUTES
        rows = reader.execute(_READ, {"first": first}).fetchall()
        seen = {(at, status, reason): (n, broken) for at, status, reason, n, broken in rows}
        before = self._seen
        self._seen = seen
        if before is None:
            return
        for key, (n, broken) in seen.items():
            _, status, reason = key
            old_n, old_broken = before.get(key, (0, 0))
            # A turn that was taken for abandoned and ended after all leaves its place: a counter does not go down for it.
            self._turns.labels(status).inc(max(0, n - old_n))
            self._broken.labels(reason).inc(max(0, broken - old_broken))
