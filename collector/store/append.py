"""Appending batches to the landing tables: each row once, however often it comes, and each turn on one side of its terminal.

Runs inside the transaction of its caller and begins none. Owns the memory of recent keys; what a transaction stored is remembered after it was committed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Struct

from collector.store.recent import Keys, Recent, Times
from collector.store.tables import TABLES, Table
from collector.store.views import landing

LAST_US = (2**63 - 1 - 999) // 1000
_ID_DIGITS = 16
_IS_DIGIT = np.isin(np.arange(256), np.frombuffer(b"0123456789abcdef", np.uint8))
_IN_ONE_THREAD = "RETURNING NULL"
"""An insertion that gives something back is not shared out: for some thousand rows, waking the engine's other threads takes more of the processor than they save."""


class Appended(Struct, frozen=True):
    """What one commit did, by table: rows that were new, and rows that were there already."""

    stored: dict[str, int]
    duplicates: dict[str, int]


class Appender:
    """Appends through one connection, whose views read the segments that count."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, dedup_keys: int) -> None:
        self._connection = connection
        self._recent = {name: self._load(table, dedup_keys) for name, table in TABLES.items()}

    def _load(self, table: Table, capacity: int) -> Recent:
        """The keys of the latest rows that are stored."""
        recent = Recent(capacity)
        # Published times have microseconds: the end of its microsecond is not before any row's time. The last microsecond of all has no end that fits.
        loaded = self._connection.execute(
            f"SELECT {_key(table.name, table.keys)} AS key, least(epoch_us({table.time_at}), {LAST_US}) * 1000 + 999 AS time FROM store.{table.name} "
            f"ORDER BY {table.time_at} DESC LIMIT {capacity + 1}"
        ).fetchnumpy()
        keys, times = np.asarray(loaded["key"], np.uint64), np.asarray(loaded["time"], np.int64)
        if len(keys):
            recent.add(keys, times)
        if len(keys) > capacity:
            recent.covered_from_ns = int(times.min()) + 1
        return recent

    def append(self, batches: dict[str, pa.Table], generation: str) -> tuple[Appended, Callable[[], None]]:
        """Appends the rows that are new; what was done, and what is to be called once it is committed."""
        stored: dict[str, int] = {}
        hashed: list[tuple[str, Keys, Times]] = []
        accepted, ended = batches.get("accepted"), batches.get("ended")
        if ended is not None:
            batches = {**batches, "ended": self._with_deadlines(ended, accepted)}
        for name, table in TABLES.items():
            if name in batches:
                keys, times = self._keys(name, batches[name], table.keys, table.time)
                stored[name] = self._append_one(table, batches[name], keys, times, generation)
                hashed.append((name, keys, times))
        if accepted is not None:
            stored["accepted"] = self._accept(accepted, ended)
        if ended is not None:
            with self._registered(ended.select(["turn_id"])):
                self._connection.execute("DELETE FROM landing.accepted WHERE turn_id IN (SELECT turn_id FROM incoming)")

        def remember() -> None:
            for name, keys, times in hashed:
                self._recent[name].add(keys, times)

        return Appended(stored, {name: batches[name].num_rows - rows for name, rows in stored.items()}), remember

    def _append_one(self, table: Table, batch: pa.Table, keys: Keys, times: Times, generation: str) -> int:
        """Appends the rows of one table that are new; how many."""
        suspects, low_ns, high_ns = self._recent[table.name].suspects(keys, times)
        target = landing(table, generation)
        if not suspects.any():
            with self._registered(batch):
                self._connection.execute(f"INSERT INTO {target} BY NAME SELECT * FROM incoming {_IN_ONE_THREAD}")
            return int(batch.num_rows)
        clean = batch.filter(pa.array(~suspects))
        with self._registered(clean):
            self._connection.execute(f"INSERT INTO {target} BY NAME SELECT * FROM incoming {_IN_ONE_THREAD}")
        suspicious = batch.filter(pa.array(suspects))
        # The first of a batch stays, as between batches.
        suspicious = suspicious.append_column("arrival", pa.array(range(suspicious.num_rows), pa.int64()))
        same = " AND ".join(f"old.{key} IS NOT DISTINCT FROM new.{key}" for key in table.keys)
        with self._registered(suspicious):
            row = self._connection.execute(
                f"INSERT INTO {target} BY NAME SELECT new.* EXCLUDE (arrival) FROM ("
                f"SELECT * FROM incoming QUALIFY row_number() OVER (PARTITION BY {', '.join(table.keys)} ORDER BY arrival) = 1) AS new "
                f"WHERE NOT EXISTS (SELECT 1 FROM store.{table.name} AS old "
                f"WHERE old.{table.time_at} BETWEEN {_at(low_ns)} AND {_at(high_ns)} AND {same})"
            ).fetchone()
        return int(clean.num_rows) + (int(row[0]) if row else 0)

    def _with_deadlines(self, ended: pa.Table, accepted: pa.Table | None) -> pa.Table:
        """The rows of turns that ended, with the deadlines that their acceptance told."""
        with self._registered(ended):
            known = dict(
                self._connection.execute(
                    "SELECT turn_id, deadline_ms FROM landing.accepted SEMI JOIN incoming USING (turn_id)"
                ).fetchall()
            )
        if accepted is not None:
            known.update(zip(accepted["turn_id"].to_pylist(), accepted["deadline_ms"].to_pylist(), strict=True))
        place = ended.schema.get_field_index("deadline_ms")
        deadlines = [
            known.get(turn, told)
            for turn, told in zip(ended["turn_id"].to_pylist(), ended["deadline_ms"].to_pylist(), strict=True)
        ]
        return ended.set_column(place, ended.schema.field(place), pa.array(deadlines, pa.int64()))

    def _accept(self, accepted: pa.Table, ended: pa.Table | None) -> int:
        """Stores accepted turns that are new and have not ended; how many."""
        if ended is not None:
            gone = pc.is_in(accepted["turn_id"], value_set=ended["turn_id"].combine_chunks())
            accepted = accepted.filter(pc.invert(gone))
        if not accepted.num_rows:
            return 0
        suspects, low_ns, high_ns = self._recent["ended"].suspects(*self._keys("ended", accepted, ("turn_id",), "started_ns"))
        over = (
            "AND NOT EXISTS (SELECT 1 FROM store.ended AS old WHERE old.turn_id = new.turn_id "
            f"AND old.started_at BETWEEN {_at(low_ns)} AND {_at(high_ns)})"
        )
        with self._registered(accepted):
            row = self._connection.execute(
                "INSERT INTO landing.accepted BY NAME SELECT new.* FROM (SELECT DISTINCT ON (turn_id) * FROM incoming) AS new "
                "WHERE NOT EXISTS (SELECT 1 FROM landing.accepted AS old WHERE old.turn_id = new.turn_id) "
                f"{over if suspects.any() else ''}"
            ).fetchone()
        return int(row[0]) if row else 0

    def _keys(self, name: str, batch: pa.Table, keys: tuple[str, ...], time: str) -> tuple[Keys, Times]:
        """What `Recent` knows rows of a table by, and their times."""
        if name == "spans" and (found := _span_keys(batch["span_id"])) is not None:
            return found, batch[time].to_numpy()
        with self._registered(batch.select([*keys, time])):
            hashed = self._connection.execute(f"SELECT {_key(name, keys)} AS key, {time} AS time FROM incoming").fetchnumpy()
        return np.asarray(hashed["key"], np.uint64), np.asarray(hashed["time"], np.int64)

    @contextlib.contextmanager
    def _registered(self, table: pa.Table) -> Iterator[None]:
        self._connection.register("incoming", table)
        try:
            yield
        finally:
            self._connection.unregister("incoming")


def _at(ns: int) -> str:
    return f"make_timestamptz({ns // 1000})"


def _key(name: str, keys: tuple[str, ...]) -> str:
    """The expression for 64 bits that stand for a row. A span's id is that already, and is read from its text without the engine: see `_span_keys`."""
    if name != "spans":
        return f"hash({', '.join(keys)})"
    return "CASE WHEN regexp_full_match(span_id, '[0-9a-f]{16}') THEN CAST('0x' || span_id AS UBIGINT) ELSE hash(span_id) END"


def _span_keys(ids: pa.ChunkedArray) -> Keys | None:
    """What `_key` says of the ids of spans, where all are of the usual form; none where one is not."""
    column = pa.concat_arrays(ids.chunks) if ids.num_chunks else pa.array([], pa.string())
    offsets, text = column.buffers()[1:]
    if column.null_count or column.offset or offsets is None or text is None:
        return None
    ends = np.frombuffer(offsets, np.int32, len(column) + 1)
    digits = np.frombuffer(text, np.uint8, int(ends[-1]))
    if (np.diff(ends) != _ID_DIGITS).any() or not _IS_DIGIT[digits].all():
        return None
    return np.frombuffer(bytes.fromhex(digits.tobytes().decode("ascii")), ">u8").astype(np.uint64)
