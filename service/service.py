"""The running service: starts turns, finds them, stops them. What the HTTP side talks to.

Owns the life of a turn outside its worker: admission, the directory, viewers, and the drain at shutdown.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from msgspec import Struct
from sqlalchemy.exc import SQLAlchemyError

from lastword import names
from lastword.ids import new_turn_id
from service import problems
from service.clock import Anchor, as_datetime
from service.cursor import Cursor
from service.directory import TurnDirectory
from service.log import TurnLog
from service.metrics import Metrics
from service.mirrors import WATCHED_S, Mirrors
from service.run.deps import Deps
from service.run.facts import turn_facts
from service.run.runner import run_turn
from service.run.turn import Ask, Turn
from service.spans import Span, build_spans
from service.store.bus import Bus
from service.store.data import StoredTurn
from service.store.instances import InstanceStore
from service.telemetry import Telemetry
from service.turn.failures import FailureKind
from service.turn.timings import NS_PER_MS
from service.workers import WorkerPool

logger = logging.getLogger(__name__)

READERS = 8
"""Threads for the HTTP side's short reads of the database and of documents."""

T = TypeVar("T")


class Neighbours(Struct, frozen=True):
    """How this instance reaches the others on its database."""

    instances: InstanceStore
    mirrors: Mirrors
    bus: Bus


class TurnService:
    """All turns of the process. Methods are called from the event loop; none of them blocks."""

    def __init__(
        self,
        deps: Deps,
        *,
        telemetry: Telemetry,
        pool: WorkerPool,
        directory: TurnDirectory,
        metrics: Metrics,
        neighbours: Neighbours,
    ) -> None:
        self.deps = deps
        self.neighbours = neighbours
        self.metrics = metrics
        self.directory = directory
        self._telemetry = telemetry
        self._pool = pool
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="reader")
        self.draining = False
        self.streams = 0  # responses that are being written; counted by the HTTP side, in the event loop

    async def read(self, work: Callable[[], T]) -> T:
        """Runs a short blocking read in threads of our own: the default executor is too small, and shared with the framework."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    def start(self, ask: Ask, anchor: Anchor, *, traceparent: str | None, tracestate: str | None) -> Turn:
        """Starts a turn in a worker of its own.

        Raises:
            Rejected: 503, where no worker is free or the process is about to end.
        """
        if self.draining:
            raise problems.draining()
        trace = self._telemetry.begin(anchor.wall_ns, traceparent, tracestate)
        turn_id = new_turn_id()
        store = self.deps.store
        log = TurnLog(turn_id, self.deps.settings.max_log_bytes, store.save_frames, is_ahead=store.is_ahead)
        turn = Turn(turn_id, ask, anchor=anchor, clock=self.deps.clock, log=log, trace=trace)
        self.directory.add(turn)
        if not self._pool.try_start(lambda: self._work(turn), name=turn_id[:12]):
            self.directory.end(turn, keep=False)
            raise problems.overloaded()
        return turn

    def _work(self, turn: Turn) -> None:
        try:
            run_turn(turn, self.deps)
        finally:
            self.directory.end(turn, keep=turn.log.terminal is not None)

    def turn_ended(self, turn: Turn) -> None:
        """Sends the spans and counts the turn; called by its worker. A failure in here is ours to log, never the turn's."""
        try:
            if turn.terminal is not None:
                self.metrics.ended(turn.terminal)
                self._telemetry.end(
                    turn.trace, build_spans(turn.machine, turn_facts(turn, self.deps.provider.name)), turn.anchor.wall_ns
                )
        except Exception:  # the boundary between a turn and its observation
            logger.exception("the spans of %s were not sent", turn.turn_id)

    def watch(self, log: TurnLog, after: int) -> Cursor:
        """A viewer of a log, for the running event loop.

        Raises:
            Rejected: 503, where the turn has as many viewers as it may.
        """
        if log.viewers >= self.deps.settings.max_viewers:
            raise problems.Rejected(503, "Service Unavailable", "This turn has too many viewers.", retry_after_s=5)
        return log.cursor(after)

    async def mirror(self, turn_id: str) -> TurnLog:
        """The log of a turn that another instance runs, as far as it is stored, and then live.

        Raises:
            Rejected: 503, where it cannot be followed here now.
        """
        log = await self.read(lambda: self.neighbours.mirrors.open(turn_id))
        if log is None:
            raise problems.Rejected(503, "Service Unavailable", "This turn cannot be followed here now.", retry_after_s=2)
        return log

    async def cancel_elsewhere(self, turn_id: str) -> None:
        """Asks the instance that runs a turn to stop it."""
        await self.read(lambda: self.neighbours.instances.ask_to_cancel(turn_id))

    def cancel_here(self, turn_id: str) -> None:
        """Another instance was asked to stop a turn that may be ours. Quick."""
        turn = self.directory.find(turn_id)
        if turn is not None:
            turn.control.stop(FailureKind.CANCELLED)

    def expired(self, stored: StoredTurn) -> bool:
        """Whether the events of an ended turn have been kept for as long as they are."""
        if stored.ended_at is None:
            return False
        age = as_datetime(self.deps.clock.wall_ns()) - stored.ended_at
        return age.total_seconds() > self.deps.settings.log_retention_s

    def viewer_left(self, turn: Turn, cursor: Cursor, *, joined_ns: int, resumed_from: int) -> None:
        """A viewer's connection has ended, by itself or because everything was sent."""
        cursor.close()
        complete = turn.log.closed and cursor.seq == turn.log.last_seq
        attributes: dict[str, str | bool | int | float | tuple[str, ...]] = {
            names.TURN_ID: turn.turn_id,
            names.VIEWER_DELIVERED_SEQ: cursor.seq,
            names.VIEWER_DISCONNECTED: not complete,
            names.VIEWER_RESUMED_FROM: resumed_from,
        }
        span = Span(name=names.SPAN_DELIVER, start_ns=joined_ns, end_ns=turn.now_ns(), attributes=attributes)
        self._telemetry.viewer(turn.trace, turn.anchor.wall_ns, span)
        if turn.log.closed or turn.log.viewers:
            return
        if turn.on_disconnect == "cancel":
            self._left_alone(turn)
            return
        due_ns = self.deps.clock.mono_ns() + self.deps.settings.disconnect_grace_ms * NS_PER_MS
        self.deps.watchdog.watch(due_ns, lambda: self._left_alone(turn))

    def _left_alone(self, turn: Turn) -> None:
        """Stops a turn that nobody reads, here or at another instance. Quick: who has to ask the database does so in a thread of its own."""
        if turn.log.viewers or turn.log.closed:
            return
        if not self.neighbours.bus.peers:
            turn.control.stop(FailureKind.DISCONNECTED)
        elif not self.draining:
            self._readers.submit(self._stop_unless_watched, turn)

    def _stop_unless_watched(self, turn: Turn) -> None:
        try:
            watched = self.neighbours.instances.is_watched(turn.turn_id)
        except SQLAlchemyError:  # a turn too many is better than one that somebody reads and loses
            logger.exception("it cannot be told whether %s is read elsewhere", turn.turn_id)
            watched = True
        if watched:
            due_ns = self.deps.clock.mono_ns() + round(WATCHED_S * 1e9)
            self.deps.watchdog.watch(due_ns, lambda: self._left_alone(turn))
        elif not turn.log.viewers:
            turn.control.stop(FailureKind.DISCONNECTED)

    def begin_drain(self) -> None:
        """Takes no new turn and ends those that run: each gets its terminal."""
        self.draining = True
        for turn in self.directory.running():
            turn.control.stop(FailureKind.SHUTDOWN)

    def drain(self, timeout_s: float) -> None:
        """Waits for the workers, within a bound."""
        self.begin_drain()
        left = self._pool.close(timeout_s)
        if left:
            logger.error("%d turns did not end within %.1f s", left, timeout_s)
        self.neighbours.mirrors.close()
        self._readers.shutdown(wait=False, cancel_futures=True)

    @property
    def busy(self) -> bool:
        """Whether a turn runs, or a stream is being written."""
        return bool(self._pool.active or self.streams)

    @property
    def active_turns(self) -> int:
        """Workers that are running."""
        return self._pool.active

    @property
    def capacity(self) -> int:
        """Most workers at a time."""
        return self._pool.capacity
