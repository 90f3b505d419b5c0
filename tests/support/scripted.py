"""A turn's surroundings for tests: a scripted provider, a ticking clock, a database in a file, and everything else real.

`Scene` is the composition root of tests: it runs turns through the real machine, policy, log and store in the calling thread.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from lastword.events import ServiceInfo, TurnRequest, Usage
from lastword.ids import new_turn_id
from lastword.wire import decode_stream
from service.access.callers import Callers
from service.access.keys import KeyBook
from service.clock import Anchor, SystemClock
from service.log import TurnLog
from service.providers.port import ModelEvent, ModelRequest, Passage
from service.routes import Retrieval, Route, RouteTable
from service.run.deps import Deps
from service.run.runner import run_turn
from service.run.turn import Ask, Turn
from service.settings import ServiceSettings
from service.store.engine import migrate, open_engine
from service.store.store import TurnStore
from service.telemetry import TurnTrace
from service.tools.registry import ToolRegistry
from service.turn.failures import AttemptFailed, FailureKind
from service.watchdog import Watch, Watchdog

INFO = ServiceInfo(name="lastword", version="0", instance="test")
MS = 1_000_000
PASSAGES = (
    Passage(
        url="https://docs.example/partial", title="Partial streams", text="A stream is partial when it was cut.", score=3.0
    ),
    Passage(url="https://docs.example/retry", title="Retries", text="Nothing is retried after visible text.", score=2.0),
)

Step = ModelEvent | AttemptFailed | Callable[["ScriptedCall"], None]


class TickingClock:
    """A clock that moves by one millisecond whenever it is read, so that every time in a test is known."""

    def __init__(self, wall_ns: int = 1_700_000_000_000_000_000) -> None:
        self._wall_ns = wall_ns
        self._mono_ns = 0

    def wall_ns(self) -> int:
        return self._wall_ns

    def mono_ns(self) -> int:
        self._mono_ns += MS
        return self._mono_ns


class ScriptedCall:
    """Yields what its script says; a step that is a failure is raised, one that is a function is called."""

    def __init__(self, steps: list[Step]) -> None:
        self._steps = steps
        self.aborted = threading.Event()
        self.usage = Usage(input_tokens=1, complete=False)

    def __iter__(self) -> Iterator[ModelEvent]:
        for step in self._steps:
            if isinstance(step, AttemptFailed):
                raise step
            if callable(step):
                step(self)
            else:
                yield step

    def abort(self) -> None:
        self.aborted.set()

    def hang(self) -> None:
        """Blocks like a reader on a silent socket, until it is aborted."""
        assert self.aborted.wait(30), "nobody aborted the call"
        raise AttemptFailed(FailureKind.NETWORK, "aborted")


def hang(call: ScriptedCall) -> None:
    """A step: the provider goes silent."""
    call.hang()


class ScriptedProvider:
    """Plays one script per call, in order."""

    name = "scripted"

    def __init__(self) -> None:
        self.scripts: list[list[Step]] = []
        self.requests: list[ModelRequest] = []

    def start(self, request: ModelRequest) -> ScriptedCall:
        self.requests.append(request)
        return ScriptedCall(self.scripts.pop(0))

    def close(self) -> None:
        pass


class FixedSearch:
    """Always finds the same passages; or fails."""

    def __init__(self) -> None:
        self.passages = PASSAGES
        self.error: Exception | None = None

    def search(self, query: str, limit: int = 5) -> tuple[Passage, ...]:
        if self.error is not None:
            raise self.error
        return self.passages[:limit]


class SleepingWatchdog:
    """Takes watches and never calls back: under a ticking clock nothing is ever late."""

    def watch(self, due_ns: int, callback: Callable[[], None]) -> Watch:
        return Watch(due_ns, callback)

    def close(self) -> None:
        pass


class Scene:
    """Runs turns in the calling thread; on a ticking clock, or in real time with a real watchdog."""

    def __init__(self, folder: Path, tools: ToolRegistry, *, real_time: bool = False) -> None:
        self.clock = SystemClock() if real_time else TickingClock()
        self.provider = ScriptedProvider()
        self.search = FixedSearch()
        self.watchdog = Watchdog(self.clock) if real_time else SleepingWatchdog()
        engine = open_engine(f"sqlite:///{folder}/turns.sqlite")
        migrate(engine)
        self.store = TurnStore(engine)
        self.callers = Callers(KeyBook(engine), (), TickingClock(), cache_s=2, open_on_loopback=True)
        self.ended: list[Turn] = []
        self.tools = tools
        self.settings = ServiceSettings()
        self.route = Route(
            name="knowledge",
            tiers=("smart", "fast"),
            tools=tuple(tools.names),
            retrieval=Retrieval(top_k=5),
            fallback="Please try again.",
            backoff_base_ms=1,
            backoff_cap_ms=1,
        )

    def deps(self) -> Deps:
        return Deps(
            settings=self.settings,
            info=INFO,
            clock=self.clock,
            rng=random.Random(1),
            store=self.store,
            callers=self.callers,
            routes=RouteTable([self.route], {"smart": "model-s", "fast": "model-f"}),
            knowledge=self.search,
            tools=self.tools,
            provider=self.provider,
            watchdog=self.watchdog,
            record_stored=lambda: None,
            turn_ended=self.ended.append,
        )

    def turn(self, message: str = "why is my stream partial?", key: str | None = None, **fields: object) -> Turn:
        turn_id = new_turn_id()
        ask = Ask(request=TurnRequest(message=message, **fields), bearer=None, idempotency_key=key, payload_sha256=message)
        trace = TurnTrace("a" * 32, "b" * 16, None)
        return Turn(
            turn_id,
            ask,
            anchor=Anchor.of(self.clock),
            clock=self.clock,
            log=TurnLog(turn_id, self.settings.max_log_bytes, self.store.save_frames),
            trace=trace,
        )

    def run(self, *scripts: list[Step], turn: Turn | None = None, **fields: object) -> Turn:
        self.provider.scripts = [list(script) for script in scripts]
        turn = turn or self.turn(**fields)
        run_turn(turn, self.deps())
        return turn

    def close(self) -> None:
        self.watchdog.close()
        self.store.close()


def events_of(turn: Turn) -> list[object]:
    """The turn's log as events, through the wire."""
    return decode_stream(turn.log.frames_bytes)
