"""Minutes of the store as the detectors take them: turns, and how many of them broke, by route and tier, from the rollup `turn_minutes`."""

from __future__ import annotations

import duckdb
import pyarrow as pa

# A turn of a route or tier that is unknown is one of '': it is watched like the others. `abandoned` is a kind of broken.
_READ = """
SELECT
    epoch_us(minute) // 60000000 AS minute, coalesce(route, '') AS route, coalesce(tier, '') AS tier,
    CAST(sum(n) AS BIGINT) AS n, CAST(sum(broken) AS BIGINT) AS broken, CAST(sum(client_left) AS BIGINT) AS client_left,
    CAST(sum(n) FILTER (status = 'abandoned') AS BIGINT) AS abandoned
FROM turn_minutes
WHERE minute BETWEEN make_timestamptz(CAST($first AS BIGINT) * 60000000) AND make_timestamptz(CAST($last AS BIGINT) * 60000000)
GROUP BY ALL
"""


def read_minutes(reader: duckdb.DuckDBPyConnection, first: int, last: int) -> pa.Table:
    """The minutes `first` to `last` (since 1970) of a store or a catalog: `minute`, `route`, `tier`, `n`, `broken`, `client_left`, `abandoned`."""
    return reader.execute(_READ, {"first": first, "last": last}).to_arrow_table()


def counting(minutes: pa.Table, column: str) -> pa.Table:
    """The minutes with what is counted as `k`: `broken`, `client_left` or `abandoned`."""
    counted = minutes[column].fill_null(0)
    return minutes.select(["minute", "route", "tier", "n"]).append_column("k", counted)


def bounds(reader: duckdb.DuckDBPyConnection) -> tuple[int, int] | None:
    """The first and last minute with turns; none where there are none."""
    row = reader.execute(
        "SELECT epoch_us(min(minute)) // 60000000, epoch_us(max(minute)) // 60000000 FROM turn_minutes"
    ).fetchone()
    return None if row is None or row[0] is None else (int(row[0]), int(row[1]))
