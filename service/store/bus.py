"""How the instances on one database hear of each other's turns: PostgreSQL's own notifications.

One channel. A notification is a hint, sent in the transaction that it speaks of; whoever hears it reads the database. One that is lost costs a poll's time.
Notifies only while other instances live. Without PostgreSQL there is nothing to hear, and the polls alone carry the news.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import psycopg
from sqlalchemy import Connection, Engine, func, select

logger = logging.getLogger(__name__)

CHANNEL = "lastword"
_IDS_PER_NOTE = 150
"""A notification carries at most 8,000 bytes."""
_LISTEN_S = 1.0
_RETRY_S = 2.0


class Bus:
    """Tells the other instances, and hears them. `peers` says how many there are; with none nothing is sent."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.supported = engine.dialect.name == "postgresql"
        self.peers = 0
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def tell_turns(self, connection: Connection, turn_ids: list[str]) -> None:
        """Something of these turns was stored."""
        if self.supported and self.peers:
            for start in range(0, len(turn_ids), _IDS_PER_NOTE):
                self._note(connection, "turns " + " ".join(turn_ids[start : start + _IDS_PER_NOTE]))

    def tell_cancel(self, connection: Connection, turn_id: str) -> None:
        """Somebody asked to stop this turn."""
        if self.supported:
            self._note(connection, f"cancel {turn_id}")

    @staticmethod
    def _note(connection: Connection, payload: str) -> None:
        connection.execute(select(func.pg_notify(CHANNEL, payload)))

    def listen(self, on_turns: Callable[[list[str]], None], on_cancel: Callable[[str], None]) -> None:
        """Begins to hear, in a thread of its own. The callbacks must be quick."""
        if self.supported:
            self._thread = threading.Thread(target=self._run, args=(on_turns, on_cancel), name="bus", daemon=True)
            self._thread.start()

    def _run(self, on_turns: Callable[[list[str]], None], on_cancel: Callable[[str], None]) -> None:
        url = self._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        while not self._closing.is_set():
            try:
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    while not self._closing.is_set():
                        for note in connection.notifies(timeout=_LISTEN_S, stop_after=1):
                            kind, *ids = note.payload.split()
                            on_cancel(ids[0]) if kind == "cancel" else on_turns(ids)
            except psycopg.Error as error:
                logger.warning("notifications are not heard, polls go on: %s", type(error).__name__)
                self._closing.wait(_RETRY_S)

    def close(self) -> None:
        """Ends the thread."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join(_LISTEN_S + _RETRY_S)


def database_time(connection: Connection) -> float:
    """Seconds since 1970 by the clock that all instances share: the database's own, or this machine's for a file on it."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.scalar(select(func.extract("epoch", func.clock_timestamp()))) or 0.0)
