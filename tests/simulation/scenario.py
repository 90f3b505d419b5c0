"""One seed: some turns, their clients, and what goes wrong around them; run to the end, then checked."""

import random
from collections import Counter
from dataclasses import dataclass, field
from unittest.mock import patch

from lastword.events import TurnRequest
from service import problems
from service.clock import Anchor
from service.providers.port import ToolResult
from service.run.turn import Ask
from service.store.models import Base
from service.turn.failures import FailureKind
from tests.simulation import model
from tests.simulation.client import Viewer
from tests.simulation.process import Process
from tests.simulation.world import Clock, S, World


@dataclass
class Asked:
    """One question, and what was done about it from outside."""

    number: int
    request: TurnRequest
    key: str | None
    payload: str
    turns: list = field(default_factory=list)  # one for each time that it was asked; by its key all but one lead to another
    viewers: list = field(default_factory=list)


class Run:
    """A whole run. `trace` holds its log, `asked` its turns, `counts` what occurred."""

    def __init__(self, seed, engine, tell=None):
        self.seed = seed
        self.engine = engine
        self.world = World(seed, tell=tell)
        self.rng = self.world.rng
        self.counts = Counter()
        self.asked = []
        self.viewers = []
        self.processes = []
        self.process = None
        self.cancelled_ns = {}
        self.shutdown_ns = None
        self._kinds = {}
        self._ids = random.Random(seed * 7919 + 1)

    @property
    def trace(self):
        """The run's log."""
        return self.world.trace

    def go(self):
        """Runs to the end, on a database that holds nothing else."""
        with self.engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables):
                connection.execute(table.delete())
        with (
            patch("service.service.new_turn_id", self._turn_id),
            patch("service.run.beginning.new_conversation_id", self._conversation_id),
        ):
            try:
                self._restart()
                self._plan()
                self.world.run()
                if self.shutdown_ns is None and not self.process.writer.gone:
                    self.process.service.begin_drain()  # nobody is left; what runs now would be a leak
                self._come_back()
                self.world.run()
            finally:
                for process in self.processes:
                    process.ahead.close()

    def _turn_id(self):
        return f"trn_{self._ids.getrandbits(128):032x}"

    def _conversation_id(self):
        return f"cnv_{self._ids.getrandbits(96):024x}"

    # --- processes

    def _restart(self):
        self.process = Process(self.world, self.engine, len(self.processes), self._choose)
        self.processes.append(self.process)
        if len(self.processes) > 1:
            self.counts["recovered"] += self.process.recover(self.engine)

    def _crash(self):
        if self.process.writer.gone:
            return
        self.world.say("the process is killed")
        self.counts["crash"] += 1
        self.process.crash()
        for viewer in self.viewers:
            viewer.lose()
        self.world.after(200 + self.rng.random() * 300, self._restart)

    def _shut_down(self):
        if self.process.writer.gone:
            return
        self.world.say("the process is told to end")
        self.counts["shutdown"] += 1
        self.shutdown_ns = self.world.now_ns
        self.process.service.begin_drain()

    def _steal(self):
        """Another instance takes ours for dead and closes its turns."""
        if self.process.writer.gone:
            return
        other = Process(self.world, self.engine, 99, self._choose)
        self.process.ahead.lease(0, alone=True)  # it has run out, or no other instance would
        taken = other.recover(self.engine)
        other.ahead.close()
        self.process.ahead.lease(10**6, alone=True)  # the other has gone, and ours goes on
        self.world.say(f"another instance closes {taken} turns")
        self.counts["stolen"] += taken

    def _outage(self):
        self.world.say("the database is away")
        self.counts["outage"] += 1
        self.process.writer.away_until_ns = self.world.now_ns + round(self.rng.random() * 0.9 * S)

    # --- what happens

    def _plan(self):
        rng, world = self.rng, self.world
        for number in range(rng.randrange(1, 4)):
            world.after(rng.random() * 1500, lambda number=number: self._ask(number))
        for chance, act in ((0.16, self._crash), (0.12, self._shut_down), (0.08, self._steal), (0.12, self._outage)):
            if rng.random() < chance:
                world.after(rng.expovariate(1) * rng.choice((300, 1500, 4000)), act)

    def _ask(self, number):
        rng = self.rng
        request = TurnRequest(
            message=f"question {number}",
            route=rng.choice(("guarded", "bare", None)),
            deadline_ms=rng.choice((None, None, None, 400, 4000)),
            on_disconnect=rng.choice(("continue", "continue", "cancel")),
        )
        asked = Asked(number, request, rng.choice((None, f"key-{self.seed}-{number}")), f"p{number}")
        self.asked.append(asked)
        habits = {
            name
            for name, chance in (("slow", 0.15), ("stuck", 0.15), ("restless", 0.3), ("gone", 0.12))
            if rng.random() < chance
        }
        viewer = self._viewer(asked, f"client {number}", habits)
        if not self._post(asked, viewer):
            return
        world = self.world
        if rng.random() < 0.15:
            world.after(rng.expovariate(1) * rng.choice((20, 600, 3000)), lambda: self._cancel(asked))
        if asked.key is not None and rng.random() < 0.6:
            world.after(rng.expovariate(1) * rng.choice((1, 300, 3000)), lambda: self._post_again(asked))
        if rng.random() < 0.3:
            second = self._viewer(asked, f"second viewer {number}", set())
            world.after(rng.random() * 2000, lambda: self._join(asked, second))
        if "gone" in habits:
            self.counts["client gone"] += 1
            world.after(rng.expovariate(1) * rng.choice((5, 500, 3000)), viewer.leave)
        else:
            world.after(50 + rng.random() * 900, lambda: self._look_after(viewer))

    def _viewer(self, asked, name, habits):
        viewer = Viewer(self.world, name, habits)
        self.viewers.append(viewer)
        asked.viewers.append(viewer)
        return viewer

    def _post(self, asked, viewer):
        if self.process.writer.gone:
            return False  # nobody listens
        ask = Ask(request=asked.request, bearer=None, idempotency_key=asked.key, payload_sha256=asked.payload)
        try:
            turn = self.process.start(ask, Anchor.of(Clock(self.world, breathing=False)))
        except problems.Rejected as rejected:
            self.counts[f"rejected {rejected.status}"] += 1
            return False
        asked.turns.append(turn)
        self.world.say(f"{viewer.name} asks on {asked.request.route}: {turn.turn_id[:12]}")
        viewer.ask(self.process, turn)
        return True

    def _post_again(self, asked):
        """The same request once more: a proxy's retry, or an impatient finger; sometimes another question under the same key."""
        if self.rng.random() < 0.2:
            other = Asked(asked.number, asked.request, asked.key, "another payload")
            viewer = Viewer(self.world, f"other question {asked.number}", set())
            if self._post(other, viewer):
                self.counts["key with another payload"] += 1
                self.world.after(3_000, lambda: self._expect_422(asked, viewer))
            return
        again = self._viewer(asked, f"again {asked.number}", set())
        self.counts["asked again"] += 1
        self._post(asked, again)

    def _expect_422(self, asked, viewer):
        """The key was claimed by a turn that is stored, so the other question was refused."""
        if asked.turns[0].stored and viewer.status not in {422, 503, None}:
            raise AssertionError(f"another payload under the same key was answered {viewer.status}")

    def _join(self, asked, viewer):
        turn = asked.turns[0]
        if turn.stored and not self.process.writer.gone:
            viewer.turn_id = turn.turn_id
            viewer.resume(self.process)

    def _look_after(self, viewer):
        """A client that wants the whole answer: comes back whenever its connection was lost, and sometimes leaves by itself."""
        rng = self.rng
        if viewer.complete or viewer.world.now_ns > 90 * S:
            return
        if viewer.connected:
            if "restless" in viewer.habits and rng.random() < 0.4:
                self.counts["resume"] += 1
                viewer.leave()
        elif not self.process.writer.gone and viewer.status in {None, 503}:  # it may come back when the service says so
            viewer.resume(self.process)
        self.world.after(50 + rng.random() * 900, lambda: self._look_after(viewer))

    def _cancel(self, asked):
        turn = asked.turns[0]
        if self.process.writer.gone or turn not in self.process.turns:
            return
        self.counts["cancel"] += 1
        if not turn.log.closed:
            self.world.say(f"cancel of {turn.turn_id[:12]}")
            if turn.control.stop(FailureKind.CANCELLED):
                self.cancelled_ns[turn.turn_id] = self.world.now_ns

    def _come_back(self):
        """When all is over, everybody who was acknowledged reads the rest."""
        if self.process.writer.gone or self.shutdown_ns is not None:
            self._restart()
        for viewer in self.viewers:
            if viewer.seq and not viewer.complete:
                viewer.habits = set()
                viewer.lose()
        self.world.run()
        for viewer in self.viewers:
            if viewer.seq:
                viewer.resume(self.process)

    # --- the model

    def _choose(self, request):
        """A plan for a call. An attempt that began with tools or pauses goes on with its own."""
        rng = self.rng
        place = (request.turn_id, request.attempt)
        goes_on = any(isinstance(said, ToolResult) for said in request.transcript) or place in self._kinds
        kind = self._kinds.get(place)
        if kind not in {"tool_loop", "pause_loop"}:
            kinds = model.LIKELY if rng.random() < 0.5 else model.ALL
            kind = rng.choice([one for one in kinds if not (goes_on and one == "tools")])
        self._kinds[place] = kind
        plan = model.draw(rng, kind)
        self.counts[f"model: {kind}"] += 1
        self.world.say(f"model call of {request.turn_id[:12]}, attempt {request.attempt} on {request.model}: {kind}")
        return plan
