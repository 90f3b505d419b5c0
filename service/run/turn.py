"""The turn in progress: everything that its worker knows.

Owned by the worker's thread; other threads reach it through `control` and read `log` only. Knows no HTTP and no OpenTelemetry.
"""

from __future__ import annotations

import hashlib

from msgspec import Struct

from lastword.events import Ack, Chunk, Done, Error, OnDisconnect, TurnRequest, Usage
from lastword.states import Signal
from lastword.wire import scalar_text
from service.access.grants import ANONYMOUS, Grant, Scope
from service.clock import Anchor, Clock
from service.control import TurnControl
from service.log import TurnLog
from service.problems import Rejected
from service.providers.port import Passage
from service.records import TurnIds
from service.routes import Route
from service.store.data import Message
from service.telemetry import TurnTrace
from service.turn.answer import Cleaner
from service.turn.journal import AttemptNote, ToolNote
from service.turn.machine import TurnMachine
from service.turn.outcome import Verdict
from service.turn.sources import SourceBook
from service.turn.timings import NS_PER_MS


class Ask(Struct, frozen=True, kw_only=True):
    """What a client asked for, as the HTTP side understood it. `grant` is set where an application around us has found out who asks."""

    request: TurnRequest
    bearer: str | None
    idempotency_key: str | None
    payload_sha256: str
    grant: Grant | None = None


class Turn:
    """One turn, from acceptance to terminal."""

    def __init__(self, turn_id: str, ask: Ask, *, anchor: Anchor, clock: Clock, log: TurnLog, trace: TurnTrace) -> None:
        self.turn_id = turn_id
        self.ask = ask
        self.anchor = anchor
        self.log = log
        self.trace = trace
        self.control = TurnControl()
        self.machine = TurnMachine()
        self.rejected: Rejected | None = None
        self.attached_to: str | None = None  # the turn that the idempotency key names, where it is another
        self.stored = False  # whether the database knows the turn
        self._clock = clock

        # beginning
        self.grant = Grant(caller=ANONYMOUS, scopes=frozenset())  # what may be done is known once the key was read
        self.caller = ""
        self.conversation_id = ""
        self.on_disconnect: OnDisconnect = ask.request.on_disconnect
        self.deadline_ms = 0
        self.history: list[Message] = []
        self.route: Route | None = None
        self.tiers: tuple[str, ...] = ()
        self.tier = ""
        self.model: str | None = None

        # middle
        self.sources = SourceBook()
        self.passages: tuple[Passage, ...] = ()
        self.retrieval_error: str | None = None
        self.attempts: list[AttemptNote] = []
        self.side_effects = False
        self.fallback = False
        self.cleaner = Cleaner()
        self.raw: list[str] = []  # the provider's text of the present try
        self.shown: list[str] = []
        self.text_complete = False  # whether the provider's text came to its own end
        self.last_content_ns = 0
        self._digest = hashlib.sha256()

        # end
        self.verdict: Verdict | None = None
        self.answer = ""
        self.terminal: Done | Error | None = None

    @property
    def ids(self) -> TurnIds:
        """What names the turn and its root span."""
        return TurnIds(self.turn_id, self.trace.trace_id, self.trace.span_id)

    @property
    def lost(self) -> bool:
        """Whether another instance has closed the turn: then the database knows more of it than we do."""
        return self.stored and self.rejected is None and self.log.closed and self.log.terminal is None

    def now_ns(self) -> int:
        """Nanoseconds since acceptance."""
        return self._clock.mono_ns() - self.anchor.mono_ns

    def step(self, signal: Signal) -> int:
        """Moves the machine now; the reading of the clock that it was moved at."""
        at_ns = self.now_ns()
        self.machine.step(signal, at_ns)
        return at_ns

    @property
    def route_wish(self) -> str | None:
        """The route that the client asked for, where its key allows such a wish."""
        return self.ask.request.route if Scope.ROUTE in self.grant.scopes else None

    @property
    def tier_wish(self) -> str | None:
        """The model tier that the client asked for, where its key allows such a wish."""
        return self.ask.request.model_tier if Scope.TIER in self.grant.scopes else None

    @property
    def left_ms(self) -> int:
        """Time to the turn's deadline, in milliseconds; not below 0."""
        return max(0, self.deadline_ms - self.now_ns() // NS_PER_MS)

    @property
    def deadline_mono_ns(self) -> int:
        """The turn's deadline on the monotonic clock."""
        return self.anchor.mono_ns + self.deadline_ms * NS_PER_MS

    @property
    def chosen_route(self) -> Route:
        """The route, once it is chosen."""
        if self.route is None:
            raise AssertionError("the turn has no route yet")
        return self.route

    @property
    def degraded(self) -> bool:
        """Whether the turn has left the tier that its route chose."""
        return bool(self.tiers) and self.tier != self.tiers[0]

    @property
    def usage(self) -> Usage:
        """Tokens over all attempts."""
        return sum((attempt.usage for attempt in self.attempts), Usage())

    @property
    def tool_notes(self) -> list[ToolNote]:
        """All tool calls, in order."""
        return [tool for attempt in self.attempts for tool in attempt.tools]

    @property
    def streamed_sha256(self) -> str:
        """Digest over all chunk text."""
        return self._digest.hexdigest()

    def append_ack(self, ack: Ack) -> None:
        """Appends the first event."""
        self.log.append(ack)

    def show(self, raw: str) -> bool:
        """Cleans a piece of the provider's text and shows what can be shown; whether anything was.

        The append of the first chunk is the commit point: from then on the turn is visible.

        Raises:
            LogFull: the log's limit is reached.
        """
        self.raw.append(raw)
        return self._append(self.cleaner.feed(raw))

    def show_rest(self) -> bool:
        """Shows what the cleaner held back: the provider has said its last word."""
        shown = self._append(self.cleaner.finish())
        self.text_complete = True
        return shown

    def _append(self, cleaned: str) -> bool:
        if not cleaned:
            return False
        text = scalar_text(cleaned)
        at_ns = self.now_ns()
        self.log.append(Chunk(turn_id=self.turn_id, seq=self.log.last_seq + 1, t_ms=at_ns // NS_PER_MS, text=text))
        if not self.machine.visible:
            self.machine.step(Signal.FIRST_CHUNK, at_ns)
        self.shown.append(text)
        self.last_content_ns = at_ns
        self._digest.update(text.encode())
        return True

    def begin_text(self) -> None:
        """Forgets the text of a failed try, of which nothing was shown."""
        self.cleaner = Cleaner()
        self.raw = []
        self.text_complete = False
