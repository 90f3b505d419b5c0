"""Which instances live, which turns have lost theirs, and what one instance asks of another.

An instance lives while it renews its lease. On one machine a look at its process tells sooner: a killed process is known to be dead at once. Every
method is one transaction.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, insert, select, update

from service.store.bus import Bus, database_time
from service.store.engine import READ_ONLY
from service.store.models import InstanceRow, MessageRow, OutboxRow, TurnLogRow, TurnRow
from service.store.writer import Writer

MAX_ORPHANS = 500
"""Turns that are recovered in one round."""
MAX_EXPIRED = 500
"""Logs that are deleted in one transaction."""


def place_of_process() -> str:
    """What processes that can look at each other share: machine, boot and process namespace. Empty where /proc does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{os.uname().nodename} {boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def process_name(pid: int) -> str:
    """A process by its id and start time, which tell it from a later one with the same id; empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in {"Z", "X"} else f"{pid} {fields[19]}"


class InstanceStore:
    """Leases and requests between instances."""

    def __init__(self, engine: Engine, writer: Writer, bus: Bus, instance: str) -> None:
        self._reader = engine.execution_options(**READ_ONLY)
        self._writer = writer
        self._bus = bus
        self._instance = instance
        self._place = place_of_process()
        self._process = process_name(os.getpid())

    def renew(self, lease_s: float) -> int:
        """Lives for this many seconds more; how many others do."""

        def job(connection: Connection) -> int:
            now = database_time(connection)
            mine = update(InstanceRow).where(InstanceRow.instance == self._instance)
            if not connection.execute(mine.values(lease_until=now + lease_s)).rowcount:
                born = {
                    "instance": self._instance,
                    "place": self._place,
                    "process": self._process,
                    "lease_until": now + lease_s,
                }
                connection.execute(insert(InstanceRow), born)
            return len(self._living(connection, now) - {self._instance})

        self._bus.peers = self._writer.run(job, fast=True)
        return self._bus.peers

    def leave(self) -> None:
        """This instance has ended all its turns."""
        self._writer.run(
            lambda connection: connection.execute(delete(InstanceRow).where(InstanceRow.instance == self._instance))
        )

    def _living(self, connection: Connection, now: float) -> set[str]:
        return {
            row.instance for row in connection.execute(select(InstanceRow)) if row.lease_until > now and not self._died(row)
        }

    def _died(self, row: Row[Any]) -> bool:
        """Whether a process that we could see is not there."""
        if not self._place or row.place != self._place or not row.process:
            return False
        process: str = row.process
        return process_name(int(process.split(maxsplit=1)[0])) != process

    def orphans(self) -> list[str]:
        """Open turns whose instance does not live; dead instances without any are forgotten."""
        with self._reader.connect() as connection:
            now = database_time(connection)
            living = self._living(connection, now)
            known = set(connection.scalars(select(InstanceRow.instance)))
            lost = list(
                connection.scalars(
                    select(TurnRow.turn_id)
                    .where(TurnRow.state == "open", TurnRow.owner.is_(None) | TurnRow.owner.not_in(living | {self._instance}))
                    .order_by(TurnRow.accepted_at)
                    .limit(MAX_ORPHANS)
                )
            )
        dead = known - living - {self._instance}
        if dead and not lost:
            self._writer.run(
                lambda connection: connection.execute(delete(InstanceRow).where(InstanceRow.instance.in_(dead))), fast=True
            )
        return lost

    # --- requests

    def ask_to_cancel(self, turn_id: str) -> None:
        """Asks the instance that runs a turn to stop it."""

        def job(connection: Connection) -> None:
            connection.execute(
                update(TurnRow).where(TurnRow.turn_id == turn_id, TurnRow.state == "open").values(cancelled=True)
            )
            self._bus.tell_cancel(connection, turn_id)

        self._writer.run(job, fast=True)

    def asked_to_cancel(self) -> list[str]:
        """Turns of this instance that somebody asked to stop."""
        with self._reader.connect() as connection:
            mine = select(TurnRow.turn_id).where(TurnRow.state == "open", TurnRow.owner == self._instance, TurnRow.cancelled)
            return list(connection.scalars(mine))

    def keep_watched(self, turn_ids: list[str], seconds: float) -> None:
        """These turns have viewers here: their instance must not take them for left alone."""

        def job(connection: Connection) -> None:
            until = database_time(connection) + seconds
            connection.execute(
                update(TurnRow).where(TurnRow.turn_id.in_(turn_ids), TurnRow.state == "open").values(watched_until=until)
            )

        self._writer.run(job, fast=True)

    def is_watched(self, turn_id: str) -> bool:
        """Whether a turn has viewers at another instance."""
        with self._reader.connect() as connection:
            until = connection.scalar(select(TurnRow.watched_until).where(TurnRow.turn_id == turn_id))
            return until is not None and until > database_time(connection)

    # --- retention

    def expire_logs(self, keep_s: float) -> int:
        """Deletes logs of turns that ended longer ago; how many there were."""

        def job(connection: Connection) -> int:
            old = select(TurnRow.turn_id).where(TurnRow.ended_at < _ago(connection, keep_s))
            ids = list(connection.scalars(select(TurnLogRow.turn_id).where(TurnLogRow.turn_id.in_(old)).limit(MAX_EXPIRED)))
            connection.execute(delete(TurnLogRow).where(TurnLogRow.turn_id.in_(ids)))
            return len(ids)

        return self._writer.run(job, fast=True)

    def expire_turns(self, keep_s: float) -> int:
        """Deletes turns that ended longer ago, with their messages; how many there were. Records that wait for the collector keep theirs."""

        def job(connection: Connection) -> int:
            waiting = select(OutboxRow.turn_id).where(OutboxRow.refused.is_(None))
            old = select(TurnRow.turn_id).where(TurnRow.ended_at < _ago(connection, keep_s), TurnRow.turn_id.not_in(waiting))
            ids = list(connection.scalars(old.limit(MAX_EXPIRED)))
            for table in (TurnLogRow, MessageRow, TurnRow):
                connection.execute(delete(table).where(table.turn_id.in_(ids)))
            return len(ids)

        return self._writer.run(job, fast=True)


def _ago(connection: Connection, seconds: float) -> datetime:
    return datetime.fromtimestamp(database_time(connection) - seconds, UTC)
