"""The alerts in the store: what fires, what happened, and what is still to be told. Reads from any thread; writes take a turn in the writer's thread.

Invariant: a change of an alert, its event and the messages about it stand in one transaction, so that nothing fires untold and nothing is told that did not happen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import duckdb
import msgspec
from msgspec import Struct

from collector.alerts.alert import MINUTE_NS, Alert, Event, Judged
from collector.store.store import Store
from collector.store.tables import ALERT_EVENTS, ALERTS

_JSON = ("labels", "explanation")
KEPT_NS = 400 * 24 * 60 * MINUTE_NS
"""How long resolved alerts are kept."""
TEST = "test"
"""The rule of alerts that only try out the way to the receivers."""


class Delivery(Struct, frozen=True, kw_only=True):
    """A message about an event to a receiver. `message` is the JSON that `messages` made."""

    delivery_id: str
    event_id: str
    alert_id: str
    incident_id: str
    receiver: str
    state: str = "waiting"
    queued_ns: int
    due_ns: int
    attempts: int = 0
    message: str


class Silence(Struct, frozen=True, kw_only=True):
    """A time in which alerts are not told; a field that is none stands for every value."""

    silence_id: str
    rule: str | None = None
    route: str | None = None
    model_tier: str | None = None
    starts_ns: int
    ends_ns: int
    comment: str = ""

    def covers(self, alert: Alert, at_ns: int) -> bool:
        """Whether an alert is not to be told at a time."""
        named = ((self.rule, alert.rule), (self.route, alert.route), (self.model_tier, alert.model_tier))
        return self.starts_ns <= at_ns < self.ends_ns and all(wanted is None or wanted == has for wanted, has in named)

    def keeps(self, alert: Alert, at_ns: int) -> bool:
        """Whether an alert that fired in the silence is not told now: one that was told already is told to its end."""
        return alert.rule != TEST and self.starts_ns <= alert.fired_ns and self.covers(alert, at_ns)


class Ledger:
    """Reads and writes the tables of alerts."""

    def __init__(self, store: Store, run: Callable[[Callable[[], Any]], Any]) -> None:
        """`run` runs something in the writer's thread: `Writer.call`."""
        self._store = store
        self._run = run

    # --- reading

    def alerts(self, *, since_ns: int) -> list[Alert]:
        """Alerts that fire, or were resolved after a time."""
        columns = ", ".join(f'"{name}"' for name in ALERTS.names)
        rows = self._read(
            f"SELECT {columns} FROM landing.alerts WHERE resolved_ns IS NULL OR resolved_ns >= ? ORDER BY fired_ns, alert_id",
            since_ns,
        )
        found = []
        for row in rows:
            values = dict(zip(ALERTS.names, row, strict=True))
            for name in _JSON:
                values[name] = json.loads(values[name]) if values[name] else ({} if name == "labels" else None)
            found.append(Alert(**values))
        return found

    def judged_minute(self) -> int | None:
        """The last minute that was judged, since 1970."""
        row = self._read("SELECT max(minute_ns) // 60000000000 FROM landing.alert_series")[0]
        return None if row[0] is None else int(row[0])

    def silences(self, at_ns: int) -> list[Silence]:
        """Silences that hold at a time or later."""
        names = Silence.__struct_fields__
        rows = self._read(f"SELECT {', '.join(names)} FROM landing.alert_silences WHERE ends_ns > ? ORDER BY starts_ns", at_ns)
        return [Silence(**dict(zip(names, row, strict=True))) for row in rows]

    def waiting(self) -> list[Delivery]:
        """Messages that are still to be told, the oldest first."""
        names = Delivery.__struct_fields__
        rows = self._read(
            f"SELECT {', '.join(names)} FROM landing.alert_deliveries WHERE state = 'waiting' ORDER BY queued_ns, delivery_id"
        )
        return [Delivery(**dict(zip(names, row, strict=True))) for row in rows]

    def silenced(self) -> set[str]:
        """Alerts that fire, or fired lately, and nobody was told."""
        return {row[0] for row in self._read("SELECT DISTINCT alert_id FROM landing.alert_deliveries WHERE state = 'silenced'")}

    def _read(self, sql: str, *params: object) -> list[tuple[Any, ...]]:
        cursor = self._store.cursor()
        try:
            return cursor.execute(sql, list(params)).fetchall()
        finally:
            cursor.close()

    # --- writing: each in one transaction, durable when it returns

    def record(
        self, alerts: Sequence[Alert], events: Sequence[Event], deliveries: Sequence[Delivery], judged: Sequence[Judged] | None
    ) -> None:
        """Writes alerts as they are now, what happened, what is to be told, and how each series was judged.

        Raises:
            StoreError: nothing was written.
        """

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            for alert in alerts:
                connection.execute("DELETE FROM landing.alerts WHERE alert_id = ?", [alert.alert_id])
                _insert(connection, "alerts", _row(alert))
            for event in events:
                row = {name: getattr(event.alert, name, None) for name in ALERT_EVENTS.names}
                row |= {name: getattr(event, name) for name in ("event_id", "happened_ns", "change", "summary")}
                connection.execute("DELETE FROM landing.alert_events WHERE event_id = ?", [event.event_id])
                _insert(connection, "alert_events", row)
            for delivery in deliveries:
                connection.execute("DELETE FROM landing.alert_deliveries WHERE delivery_id = ?", [delivery.delivery_id])
                _insert(connection, "alert_deliveries", msgspec.structs.asdict(delivery))
            if judged is not None:
                connection.execute("DELETE FROM landing.alert_series")
                _insert_all(connection, "alert_series", [msgspec.structs.asdict(one) for one in judged])

        self._write(work)

    def told(
        self, delivery: Delivery, *, state: str, attempts: int, due_ns: int, delivered_ns: int | None, error: str | None
    ) -> None:
        """Notes how a try went."""
        self._write(
            lambda connection: connection.execute(
                "UPDATE landing.alert_deliveries SET state = ?, attempts = ?, due_ns = ?, delivered_ns = ?, error = ? WHERE delivery_id = ?",
                [state, attempts, due_ns, delivered_ns, error, delivery.delivery_id],
            )
        )

    def requeue(self, alert_ids: Sequence[str], receivers: Sequence[str], now_ns: int) -> None:
        """Lets messages that were silenced be told after all."""
        self._write(
            lambda connection: connection.execute(
                "UPDATE landing.alert_deliveries SET state = 'waiting', queued_ns = ?, due_ns = ? "
                "WHERE state = 'silenced' AND list_contains(?, alert_id) AND list_contains(?, receiver)",
                [now_ns, now_ns, list(alert_ids), list(receivers)],
            )
        )

    def silence(self, silence: Silence) -> None:
        """Adds a silence, or replaces the one of its id."""

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            connection.execute("DELETE FROM landing.alert_silences WHERE silence_id = ?", [silence.silence_id])
            _insert(connection, "alert_silences", msgspec.structs.asdict(silence))

        self._write(work)

    def end_silence(self, silence_id: str, at_ns: int) -> bool:
        """Ends a silence; whether there was one that held."""

        def work(connection: duckdb.DuckDBPyConnection) -> bool:
            row = connection.execute(
                "UPDATE landing.alert_silences SET ends_ns = ? WHERE silence_id = ? AND ends_ns > ?", [at_ns, silence_id, at_ns]
            ).fetchone()
            return bool(row and row[0])

        return bool(self._write(work))

    def prune(self, before_ns: int) -> None:
        """Removes what was over before a time: resolved alerts, their events and deliveries, and silences."""

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            connection.execute("DELETE FROM landing.alerts WHERE resolved_ns < ?", [before_ns])
            connection.execute(
                "DELETE FROM landing.alert_events WHERE happened_ns < ? AND alert_id NOT IN (SELECT alert_id FROM landing.alerts)",
                [before_ns],
            )
            connection.execute("DELETE FROM landing.alert_deliveries WHERE queued_ns < ? AND state <> 'waiting'", [before_ns])
            connection.execute("DELETE FROM landing.alert_silences WHERE ends_ns < ?", [before_ns])

        self._write(work)

    def _write(self, work: Any) -> Any:
        return self._run(lambda: self._store.transaction(work))


def _row(alert: Alert) -> dict[str, Any]:
    row = msgspec.structs.asdict(alert)
    for name in _JSON:
        row[name] = None if row[name] is None else json.dumps(row[name], ensure_ascii=False)
    return row


def _insert(connection: duckdb.DuckDBPyConnection, table: str, row: dict[str, Any]) -> None:
    _insert_all(connection, table, [row])


def _insert_all(connection: duckdb.DuckDBPyConnection, table: str, rows: Sequence[dict[str, Any]]) -> None:
    """Inserts rows of the same columns by one statement, which costs a fraction of one for each."""
    if not rows:
        return
    columns = ", ".join(f'"{name}"' for name in rows[0])
    places = f"({', '.join('?' for _ in rows[0])})"
    values = [value for row in rows for value in row.values()]
    connection.execute(f"INSERT INTO landing.{table} ({columns}) VALUES {', '.join([places] * len(rows))}", values)
