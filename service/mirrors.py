"""Turns of other instances, mirrored here for as long as somebody here reads them.

A mirror is a log like that of our own turns, filled from the database by one thread: when a notification says that something came, and else by
polling. Knows no HTTP. Invariant: a mirror shows what is stored, in order, and ends behind the stored terminal.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from lastword.events import Done, Error
from lastword.ids import parse_frame_id
from lastword.wire import decode_stream
from service.log import TurnLog
from service.store.instances import InstanceStore
from service.store.store import TurnStore

logger = logging.getLogger(__name__)

POLL_S = 1.0
"""Between polls where notifications tell what is new."""
FAST_POLL_S = 0.1
"""Between polls where nothing else does."""
WATCHED_S = 15.0
"""How long the owner takes a turn for watched after we said so."""
SAY_EVERY_S = 5.0
IDLE_S = 10.0
"""How long a mirror without a viewer is kept."""
MAX_MIRRORS = 4096


class Mirrors:
    """All mirrors of the process."""

    def __init__(self, store: TurnStore, instances: InstanceStore, *, notified: Callable[[], bool]) -> None:
        self._store = store
        self._instances = instances
        self._notified = notified
        self._changed = threading.Condition()
        self._loading = threading.Lock()
        self._logs: dict[str, tuple[TurnLog, float]] = {}
        self._hinted: set[str] = set()
        self._closing = False
        self._said_at = 0.0
        self._thread = threading.Thread(target=self._run, name="mirrors", daemon=True)
        self._thread.start()

    def open(self, turn_id: str) -> TurnLog | None:
        """The mirror of a turn, with everything that is stored now; None where there are too many, or the turn's events are gone. Blocks: it reads."""
        with self._changed:
            log = self._logs.get(turn_id, (None, 0.0))[0]
            if log is None:
                if len(self._logs) >= MAX_MIRRORS:
                    return None
                log = TurnLog(turn_id, 0)
            self._logs[turn_id] = (log, time.monotonic())
            self._changed.notify()
        self._load(log)
        if not log.closed:
            self._instances.keep_watched([turn_id], WATCHED_S)
        return None if log.closed and log.terminal is None else log

    def hint(self, turn_ids: list[str]) -> None:
        """Something of these turns was stored. Quick."""
        with self._changed:
            wanted = [turn_id for turn_id in turn_ids if turn_id in self._logs]
            if wanted:
                self._hinted.update(wanted)
                self._changed.notify()

    def _load(self, log: TurnLog) -> None:
        """Takes over what was stored since the last time. One at a time: what two took over at once would stand there twice."""
        with self._loading:
            self._load_now(log)

    def _load_now(self, log: TurnLog) -> None:
        for _ in range(2):
            stored = self._store.find_turn(log.turn_id)
            if stored is None:
                log.close()
                return
            if stored.state != "open":
                self._take(log, self._store.find_log(log.turn_id) or b"", ended=True)
                return
            data = self._store.find_frames(log.turn_id, log.last_seq)
            if data:
                self._take(log, data, ended=False)
                return
            # nothing new; or it ended between the two looks, and its frames are in its log now: the second round tells

    @staticmethod
    def _take(log: TurnLog, data: bytes, *, ended: bool) -> None:
        frames = [
            frame + b"\n\n" for frame in data.split(b"\n\n")[:-1]
        ]  # frames hold no blank line: their data is one line of JSON
        if not frames:
            if ended:
                log.close()
            return
        last_seq = parse_frame_id(frames[-1].split(b"\nid: ", 1)[1].split(b"\n", 1)[0].decode())[1]
        fresh = frames[len(frames) - max(0, last_seq - log.last_seq) :] if last_seq > log.last_seq else []
        terminal = decode_stream(frames[-1])[0] if ended else None
        log.take_over(fresh, terminal if isinstance(terminal, Done | Error) else None)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._logs and not self._closing:
                    self._changed.wait()
                if not self._hinted and not self._closing:
                    self._changed.wait(POLL_S if self._notified() else FAST_POLL_S)
                if self._closing:
                    return
                logs = [log for log, _ in self._logs.values()]
                if self._hinted:
                    logs = [log for log in logs if log.turn_id in self._hinted]
                    self._hinted = set()
            try:
                for log in logs:
                    self._load(log)
                self._say_watched()
            except Exception:  # the boundary of this thread: the database may come back
                logger.exception("turns of other instances could not be read")
                time.sleep(POLL_S)
            self._forget()

    def _say_watched(self) -> None:
        now = time.monotonic()
        if now - self._said_at < SAY_EVERY_S:
            return
        self._said_at = now
        with self._changed:
            watched = [turn_id for turn_id, (log, _) in self._logs.items() if log.viewers and not log.closed]
        if watched:
            self._instances.keep_watched(watched, WATCHED_S)

    def _forget(self) -> None:
        """Drops mirrors that nobody reads any more."""
        now = time.monotonic()
        with self._changed:
            for turn_id, (log, opened) in list(self._logs.items()):
                if log.viewers:
                    self._logs[turn_id] = (log, now)
                elif now - opened > IDLE_S or log.closed:
                    del self._logs[turn_id]

    def close(self) -> None:
        """Ends the thread, and every mirror: its viewers resume at another instance."""
        with self._changed:
            self._closing = True
            logs = [log for log, _ in self._logs.values()]
            self._changed.notify()
        for log in logs:
            log.close()
        self._thread.join()
