"""What a case works with: the server under test, the fake provider, the sink, and short ways to ask.

Owns nothing that outlives a run. Every connection that a case opened is closed when the case has ended, whatever it came to.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import secrets
from typing import Any

from msgspec import Struct

from lastword.check.case import Failed, Need, NotTried
from lastword.check.exchange import Budget, Exchange, Target, Unreachable
from lastword.check.process import Process, Vitals
from lastword.check.provider import Call, FakeProvider
from lastword.check.sink import Sink
from lastword.check.stream import TurnStream

PROBE = "conformance_probe"
"""A tool that does as it is told by its argument `behaviour`: results, empty, error or hang. A server that offers it has more cases tried."""

QUESTION = "Why is my stream partial?"
_MAX_FACT = 1e12
_METRICS = {"process_open_fds", "process_threads", "lastword_threads", "process_resident_memory_bytes"}


class Options(Struct, frozen=True, kw_only=True):
    """What the person who runs the checker chose. The counts bound the long cases."""

    api_key: str | None = None
    other_key: str | None = None
    limited_key: str | None = None
    route: str | None = None
    random_turns: int = 500
    races: int = 200
    aborts: int = 200
    slow_turns: int = 200
    silence_s: float = 60.0
    max_connections: int = 600
    patience_s: float = 20.0
    seed: int = 1


PATIENT_ROUTE = "patient"
"""A server with short time-outs may name a route with long ones: it is asked where silence is what is checked, and nowhere else."""


class Facts(Struct, frozen=True, kw_only=True):
    """What the server says of itself at `/.well-known/turn-contract`; None where it does not say."""

    versions: list[str] = []
    routes: list[str] = []
    patient_route: str | None = None
    max_turns: int | None = None
    max_body_bytes: int | None = None
    max_log_bytes: int | None = None
    disconnect_grace_ms: int | None = None
    send_timeout_ms: int | None = None
    retention_log_ms: int | None = None
    drain_ms: int | None = None

    @classmethod
    def of(cls, document: dict[str, Any]) -> Facts:
        """The facts of a document; whatever is not of the expected type is left out."""

        def number(*path: str) -> int | None:
            value: Any = document
            for name in path:
                value = value.get(name) if isinstance(value, dict) else None
            sound = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _MAX_FACT
            return round(value) if sound else None

        def words(name: str) -> list[str]:
            value = document.get(name)
            return [str(item) for item in value] if isinstance(value, list) else []

        routes = words("routes")
        return cls(
            versions=words("versions"),
            routes=[route for route in routes if route != PATIENT_ROUTE],
            patient_route=PATIENT_ROUTE if PATIENT_ROUTE in routes else None,
            max_turns=number("limits", "maxTurns"),
            max_body_bytes=number("limits", "maxBodyBytes"),
            max_log_bytes=number("limits", "maxLogBytes"),
            disconnect_grace_ms=number("disconnectGraceMs"),
            send_timeout_ms=number("sendTimeoutMs"),
            retention_log_ms=number("retention", "logMs"),
            drain_ms=number("drainMs"),
        )


class Bench:
    """The three sides around a server, for one case at a time."""

    def __init__(
        self,
        target: Target,
        options: Options,
        *,
        provider: FakeProvider | None = None,
        sink: Sink | None = None,
        process: Process | None = None,
    ) -> None:
        self.target = target
        self.options = options
        self.facts = Facts()
        self.notes: list[str] = []
        self.budget = Budget(60)
        self.rng = random.Random(options.seed)
        self._provider = provider
        self._sink = sink
        self._process = process
        self._opened: list[Exchange] = []
        self._count = itertools.count(1)
        self._run = secrets.token_hex(3)
        self._probe_route: tuple[str | None] | None = None

    # --- what there is

    @property
    def has(self) -> Need:
        """The sides that this bench has."""
        found = Need.NOTHING
        found |= Need.PROVIDER if self._provider is not None else Need.NOTHING
        found |= Need.TELEMETRY if self._sink is not None else Need.NOTHING
        return found | (Need.PROCESS if self._process is not None else Need.NOTHING)

    @property
    def provider(self) -> FakeProvider:
        """The fake provider."""
        if self._provider is None:
            raise NotTried("needs the fake provider")
        return self._provider

    @property
    def sink(self) -> Sink:
        """The telemetry sink."""
        if self._sink is None:
            raise NotTried("needs the telemetry sink")
        return self._sink

    @property
    def process(self) -> Process:
        """The server as a process of ours."""
        if self._process is None:
            raise NotTried("needs --start")
        return self._process

    def without_provider(self) -> None:
        """The server does not use our provider: what needs it is not tried."""
        self._provider = None

    def vitals(self) -> Vitals:
        """Threads, descriptors and memory of the server.

        Raises:
            NotTried: nobody shows them.
        """
        seen = self._process.vitals() if self._process is not None else _read_metrics(self)
        if seen is None:
            raise NotTried("neither --start nor /metrics (process_open_fds, process_threads) shows what the server uses")
        return seen

    # --- the life of a case

    def begin(self, limit_s: float) -> None:
        """A case begins: its own time, no notes, its own dice."""
        self.budget = Budget(limit_s)
        self.notes = []
        self.rng = random.Random(self.options.seed)

    def end(self) -> None:
        """A case has ended: its connections are closed."""
        for exchange in self._opened:
            exchange.leave()
        self._opened.clear()
        if self._provider is not None:
            self._provider.forget()

    def note(self, text: str) -> None:
        """Something that this run could not try, though the case passed as far as it was."""
        if text not in self.notes:
            self.notes.append(text)

    # --- requests

    def _headers(self, extra: dict[str, str | None]) -> list[tuple[str, str]]:
        given: dict[str, str | None] = {
            "Authorization": f"Bearer {self.options.api_key}" if self.options.api_key else None,
            **extra,
        }
        return [(name, value) for name, value in given.items() if value is not None]

    def exchange(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: dict[str, str | None] | None = None,
        *,
        receive_buffer: int | None = None,
        held: bool = False,
    ) -> Exchange:
        """A request, sent (without its last byte where it is `held`); its response is to be read by the caller."""
        every = self._headers({"Content-Type": "application/json" if body else None, **(headers or {})})
        opened = Exchange(self.target, method, path, every, body, self.budget, receive_buffer=receive_buffer, held=held)
        self._opened.append(opened)
        return opened

    def request(
        self, method: str, path: str, body: bytes = b"", headers: dict[str, str | None] | None = None, *, timeout_s: float = 15
    ) -> Exchange:
        """A request and its whole response."""
        return self.exchange(method, path, body, headers).read_all(timeout_s)

    def open(
        self,
        script: str = "text, end",
        *,
        headers: dict[str, str | None] | None = None,
        receive_buffer: int | None = None,
        mark: str | None = None,
        message: str = QUESTION,
        held: bool = False,
        **fields: Any,
    ) -> TurnStream:
        """A new turn whose provider follows a script; nothing of its answer is read yet. A new `mark` is made where none is given."""
        mark = mark or f"q{self._run}x{next(self._count)}"
        scripted = f"{message} [[script: {script}]] #{mark}" if self._provider is not None else message
        body: dict[str, Any] = {"message": scripted, **fields}
        if self.options.route is not None:
            body.setdefault("route", self.options.route)
        accept = {"Accept": "text/event-stream", **(headers or {})}
        sent = self.exchange(
            "POST",
            "/v1/turns",
            json.dumps({name: value for name, value in body.items() if value is not None}).encode(),
            accept,
            receive_buffer=receive_buffer,
            held=held,
        )
        return TurnStream(sent, script if self._provider is not None else "", mark)

    def ask(self, script: str = "text, end", **fields: Any) -> TurnStream:
        """A new turn, read to its terminal.

        Raises:
            Failed: the answer is no event stream, or ends without a terminal.
        """
        return self.open(script, **fields).head().finish()

    def follow(
        self,
        turn_id: str,
        *,
        last_event_id: str | None = None,
        after: int | str | None = None,
        headers: dict[str, str | None] | None = None,
        receive_buffer: int | None = None,
    ) -> TurnStream:
        """The events of a turn, from the start or behind a cursor."""
        query = "" if after is None else f"?after={after}"
        given = {"Accept": "text/event-stream", "Last-Event-ID": last_event_id, **(headers or {})}
        return TurnStream(
            self.exchange("GET", f"/v1/turns/{turn_id}/events{query}", headers=given, receive_buffer=receive_buffer)
        )

    def snapshot(self, turn_id: str) -> dict[str, Any]:
        """`GET /v1/turns/{id}`.

        Raises:
            Failed: it is not there, or no JSON object.
        """
        got = self.request("GET", f"/v1/turns/{turn_id}")
        body = json_of(got)
        if got.status != 200 or not body:
            raise Failed(f"GET /v1/turns/{{id}} answers {got.status}", got.evidence())
        return body

    def terminal_of(self, turn_id: str) -> dict[str, Any] | None:
        """The terminal in a turn's snapshot; None while it runs."""
        found = self.snapshot(turn_id).get("terminal")
        return found if isinstance(found, dict) else None

    def wait_ended(self, turn_id: str, timeout_s: float = 15.0) -> dict[str, Any]:
        """Waits until a turn has its terminal."""
        found: list[dict[str, Any]] = []

        def ended() -> bool:
            self.budget.pause(0.02)
            terminal = self.terminal_of(turn_id)
            found.extend([terminal] if terminal else [])
            return terminal is not None

        self.budget.wait_for(ended, timeout_s, f"the terminal of {turn_id}")
        return found[0]

    def cancel(self, turn_id: str, headers: dict[str, str | None] | None = None) -> Exchange:
        """`POST /v1/turns/{id}/cancel`."""
        return self.request("POST", f"/v1/turns/{turn_id}/cancel", headers=headers)

    def calls(self, turn: TurnStream) -> list[Call]:
        """The provider calls of a turn."""
        return self.provider.calls_of(turn.mark)

    def first_call(self, turn: TurnStream) -> Call:
        """The first provider call of a turn.

        Raises:
            Failed: there was none.
        """
        made = self.calls(turn)
        turn.expect(made, "the provider was not called")
        return made[0]

    def expect_calls(self, turn: TurnStream, count: int) -> None:
        """Expects a number of provider calls, where there is a fake provider to count them."""
        if self._provider is None:
            return
        made = len(self.calls(turn))
        turn.expect(made == count, f"the provider was called {made} times, expected {count}")

    def probe_route(self) -> str | None:
        """A route (None for the default one) on which the server offers the probe tool.

        Raises:
            NotTried: there is none.
        """
        if self._probe_route is None:
            for route in (self.options.route, *self.facts.routes[:12]):
                turn = self.ask(route=route)
                if any(PROBE in call.tool_names for call in self.calls(turn)):
                    self._probe_route = (route,)
                    break
            else:
                raise NotTried(f"the server offers no tool {PROBE!r} (see docs/conformance.md)")
        return self._probe_route[0]


def json_of(exchange: Exchange) -> dict[str, Any]:
    """The body as a JSON object; empty where it is none."""
    try:
        value = json.loads(exchange.body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def metadata_of(terminal: dict[str, Any]) -> dict[str, Any]:
    """The metadata of a terminal as a snapshot shows it; empty where it is no object."""
    found = terminal.get("metadata")
    return found if isinstance(found, dict) else {}


def _read_metrics(bench: Bench) -> Vitals | None:
    try:
        text = bench.request("GET", "/metrics").body.decode(errors="replace")
    except (Failed, Unreachable):
        return None
    values: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name in _METRICS:
            with contextlib.suppress(ValueError, OverflowError):
                values[name] = int(float(value.split(" ")[0]))
    threads = values.get("process_threads", values.get("lastword_threads"))
    if threads is None or "process_open_fds" not in values:
        return None
    return Vitals(
        threads=threads, descriptors=values["process_open_fds"], resident_bytes=values.get("process_resident_memory_bytes")
    )
