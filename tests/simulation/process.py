"""A simulated service process: the product's own service, worker code, log, stream and recovery, over virtual time and one database."""

import random

from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from lastword.events import ServiceInfo
from service import recovery
from service.access.callers import Callers
from service.access.keys import KeyBook
from service.clock import as_datetime
from service.directory import TurnDirectory
from service.log import publish_all
from service.providers.port import Passage
from service.routes import Retrieval, Route, RouteTable
from service.run.deps import Deps
from service.service import Neighbours, TurnService
from service.settings import ServiceSettings
from service.store.ahead import AheadFile
from service.store.engine import FAST
from service.store.store import TurnStore
from service.store.writer import store_frames
from service.telemetry import TurnTrace
from tests.simulation.model import TOOL_KINDS, Model, Tools
from tests.simulation.world import Clock, Event, Gone, Watchdog

WITH_AHEAD = 0.7
"""Share of the processes that show text before the database has it."""
SETTINGS = ServiceSettings(
    heartbeat_ms=700, send_timeout_ms=2_000, disconnect_grace_ms=1_500, max_log_bytes=16_384, max_viewers=8, max_turns=8
)
ROUTES = (
    Route(
        name="guarded",
        tiers=("smart", "fast"),
        tools=TOOL_KINDS,
        retrieval=Retrieval(top_k=2),
        fallback="Please try again.",
        deadline_ms=20_000,
        first_token_timeout_ms=3_000,
        stall_timeout_ms=1_500,
    ),
    Route(
        name="bare",
        tiers=("smart",),
        tools=TOOL_KINDS,
        deadline_ms=15_000,
        first_token_timeout_ms=3_000,
        stall_timeout_ms=1_500,
        attempts_per_tier=3,
    ),
)


class Writer:
    """The writer's port. Frames wait for the next flush, as they do for the next commit; jobs take what waits with them. A database can be away."""

    def __init__(self, world, engine):
        self._world = world
        self._engine = engine
        self._fast = engine.execution_options(**FAST)
        self._dirty = {}
        self.away_until_ns = 0
        self.gone = False

    def _check(self):
        if self.gone:
            raise Gone
        if self._world.now_ns < self.away_until_ns:
            raise OperationalError("write", {}, Exception("the database is away"))

    def run(self, job, *, fast=False):
        with self._world.hold():
            self._check()
            self._store()  # what waits goes first: the job may end its turn
            with self._engine.begin() as connection:
                result = job(connection)
        self._world.breathe()  # committed, and not yet told to anybody
        return result

    def save(self, log, *, fast=True, shown=False):
        if self.gone:
            raise Gone
        if log not in self._dirty:
            self._world.after(self._world.rng.random() * (250 if shown else 8), self._flush)
        self._dirty[log] = True

    def _pieces(self):
        dirty, self._dirty = self._dirty, {}
        return [(log, piece) for log in dirty if (piece := log.unsaved()) is not None]

    def _flush(self):
        if self.gone or not self._dirty:
            return
        if self._world.now_ns < self.away_until_ns:
            self._world.after(20, self._flush)
            return
        self._store()

    def _store(self):
        pieces = self._pieces()
        if not pieces:
            return
        with self._fast.begin() as connection:
            lost = store_frames(connection, pieces)
        for log, _ in pieces:
            if log.turn_id in lost:
                log.close()
        publish_all((log, piece.last_seq) for log, piece in pieces if log.turn_id not in lost)

    def close(self):
        pass


class _Pool:
    """Workers of the process, as greenlets."""

    def __init__(self, world, capacity):
        self._world = world
        self.capacity = capacity
        self.active = 0

    def try_start(self, work, name):
        if self.active >= self.capacity:
            return False
        self.active += 1

        def run():
            try:
                work()
            except Gone:
                pass
            finally:
                self.active -= 1

        self._world.spawn(run, name)
        return True

    def close(self, timeout_s):
        return self.active


class _Telemetry:
    """Takes what is observed."""

    def __init__(self):
        self.trees = []
        self.viewers = []

    def begin(self, start_ns, traceparent, tracestate):
        return TurnTrace("a" * 32, "b" * 16, None)

    def end(self, trace, tree, anchor_ns):
        self.trees.append(tree)

    def viewer(self, trace, anchor_ns, span):
        self.viewers.append(span)


class _Alone:
    """No other instance."""

    peers = 0
    supported = False


class _Mirrors:
    """No turn of another instance can be followed."""

    def open(self, turn_id):
        return None


class _Search:
    def search(self, query, limit=5):
        return (Passage(url="https://docs.example/a", title="A", text="a", score=2.0),)[:limit]


class Process:
    """One life of the service."""

    def __init__(self, world, engine, number, choose):
        self.world = world
        self.info = ServiceInfo(name="lastword", version="0", instance=f"sim-{number}")
        clock = Clock(world)
        self.writer = Writer(world, engine)
        self.ahead = AheadFile(engine, lambda: world.now_ns)
        if world.rng.random() < WITH_AHEAD:
            self.ahead.open()
            self.ahead.lease(10**6, alone=True)
        self.store = TurnStore(engine, self.writer, ahead=self.ahead)
        self.model = Model(world, choose)
        self.tools = Tools(world)
        self.telemetry = _Telemetry()
        self.turns = []
        deps = Deps(
            settings=SETTINGS,
            info=self.info,
            clock=clock,
            rng=random.Random(world.rng.random()),
            store=self.store,
            callers=Callers(KeyBook(engine), (), Clock(world, breathing=False), cache_s=2, open_on_loopback=True),
            routes=RouteTable(ROUTES, {"smart": "model-s", "fast": "model-f"}),
            knowledge=_Search(),
            tools=self.tools,
            provider=self.model,
            watchdog=Watchdog(world),
            record_stored=lambda: None,
            turn_ended=lambda turn: self.service.turn_ended(turn),  # noqa: PLW0108 - the service is made below
        )
        self.service = TurnService(
            deps,
            telemetry=self.telemetry,
            pool=_Pool(world, SETTINGS.max_turns),
            directory=TurnDirectory(Clock(world, breathing=False), 60, max_bytes=1_000_000),
            metrics=_Metrics(),
            neighbours=Neighbours(None, _Mirrors(), _Alone()),
        )

    def start(self, ask, anchor):
        """Starts a turn; its switches wait in virtual time."""
        turn = self.service.start(ask, anchor, traceparent=None, tracestate=None)
        turn.control.stop_event = Event(self.world)
        turn.control.shutdown_event = Event(self.world)
        self.turns.append(turn)
        return turn

    def crash(self):
        """The process is killed: no worker goes on, what was not stored is lost."""
        self.writer.gone = True
        self.ahead.close()  # as the system does; what is in the file stays
        self.world.kill_workers()

    def recover(self, engine):
        """What the keeper does at start: closes what a dead process left open; how many there were."""
        with engine.connect() as connection:
            open_turns = [
                row[0] for row in connection.execute(text("SELECT turn_id FROM turns WHERE state = 'open' ORDER BY 1"))
            ]
        self.ahead.open()
        return recovery.recover(
            self.store, open_turns, kept=self.ahead.read(), info=self.info, now=as_datetime(Clock(self.world).wall_ns())
        )


class _Metrics:
    """Counts nothing."""

    def ended(self, terminal):
        pass

    def rejected(self, status):
        pass

    def viewer_dropped(self):
        pass
