"""Turns inside an application of your own: the service without its HTTP server.

The application keeps its framework, its routes and its own idea of who somebody is. It hands requests over and sends back what it gets: a status, headers, and
bytes or an iterator of bytes. Everything else is the same code as behind the service's own handlers: the worker, the log, the store, the telemetry.

    turns = TurnRuntime()
    turns.start()
    answer = await turns.ask(body, caller="user-7", headers=request.headers)

What the application owes is said in docs/embedding.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import signal
import threading
from collections.abc import AsyncGenerator, Coroutine, Iterator, Mapping
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

import msgspec
from litestar import Response
from msgspec import Struct

from lastword.events import TurnRequest
from lastword.wire import encode_json
from service import problems
from service.access.grants import USUAL_SCOPES, Grant, Limits, Scope
from service.app import Parts
from service.clock import Anchor
from service.http.edge import HEADERS, require_contract, trace_id_in
from service.http.follow import begun, cancelled, cursor_of, followed, looked_at, owner_of
from service.http.house import contract_document
from service.http.problem import problem
from service.http.stream import EventStream, Frames
from service.providers.port import Provider
from service.run.turn import Ask
from service.service import TurnService
from service.settings import ServiceSettings, load_settings

T = TypeVar("T")
_MAX_KEY_CHARS = 255
_MAX_CALLER_CHARS = 64


class Answer(Struct, frozen=True):
    """What to send back. `body` is whole, or comes in pieces: send each at once, and close the iterator when the client has gone."""

    status: int
    headers: dict[str, str]
    body: bytes | AsyncGenerator[bytes, None]


class SyncAnswer(Struct, frozen=True):
    """The same for code that is not asynchronous."""

    status: int
    headers: dict[str, str]
    body: bytes | Iterator[bytes]


class TurnRuntime:
    """The parts of a turn service, in this process. `settings` are read from the environment where none are given.

    Methods are called from one event loop. `caller` is whoever the application says: turns belong to their caller, and nobody else sees them.

    Raises:
        SettingsError: a setting, the routes file or a tool cannot be used.
        StoreError: the database cannot be used.
    """

    def __init__(self, settings: ServiceSettings | None = None, *, provider: Provider | None = None) -> None:
        self._settings = settings or load_settings()
        self._parts = Parts(self._settings, provider)
        self._closed = False

    def start(self) -> None:
        """Closes what a crash left open, and begins to take turns."""
        self._parts.start()

    def close(self) -> None:
        """Ends the turns that run, each with its terminal, within the setting `drain_s`; then sends what is left to the collector. Blocks."""
        if not self._closed:
            self._closed = True
            self._parts.close(self._settings.drain_s)

    async def __aenter__(self) -> Self:
        """Starts."""
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes, without holding up the event loop: it still delivers the terminals."""
        await asyncio.to_thread(self.close)

    def drain_on(self, *numbers: signal.Signals) -> None:
        """At these signals (SIGTERM and SIGINT by default) the turns get their terminals before the server's own handler cuts the connections.

        Call it in the main thread once the server has set its handlers; they are called behind ours.

        Raises:
            RuntimeError: there is no handler yet, so the process would not end any more.
        """
        chosen = {number: signal.getsignal(number) for number in numbers or (signal.SIGTERM, signal.SIGINT)}
        unhandled = [number.name for number, before in chosen.items() if not callable(before)]
        if unhandled:
            raise RuntimeError(
                f"nothing handles {', '.join(unhandled)} yet: call drain_on once the server has set its handlers"
            )
        asked = threading.Event()

        def drain() -> None:
            asked.wait()
            self._service.begin_drain()

        threading.Thread(target=drain, name="drain", daemon=True).start()  # it takes locks, which a signal handler must not
        for number, before in chosen.items():

            def handle(signum: int, frame: FrameType | None, before: Any = before) -> None:
                asked.set()
                before(signum, frame)

            signal.signal(number, handle)

    @property
    def _service(self) -> TurnService:
        return self._parts.service

    # --- what a client can ask for

    async def ask(
        self,
        body: bytes,
        *,
        caller: str,
        headers: Mapping[str, str] | None = None,
        scopes: frozenset[Scope] = USUAL_SCOPES,
        limits: Limits | None = None,
    ) -> Answer:
        """Begins a turn: `POST /v1/turns`. `headers` are the request's; `Idempotency-Key`, `traceparent` and `Turn-Contract` are read.

        Raises:
            ValueError: `caller` is empty, or longer than 64 characters.
        """
        if not 0 < len(caller) <= _MAX_CALLER_CHARS:
            raise ValueError(f"`caller` has {len(caller)} characters; 1 to {_MAX_CALLER_CHARS} are expected")
        given = _Headers(headers)
        anchor = Anchor.of(self._service.deps.clock)
        grant = Grant(caller=caller, scopes=scopes, limits=limits or Limits())

        async def begin() -> Response[Any]:
            require_contract(given.get("turn-contract"))
            request = _decode(body, self._settings.max_body_bytes)
            key = given.get("idempotency-key")
            if key is not None and len(key) > _MAX_KEY_CHARS:
                raise problems.invalid(f"`Idempotency-Key` is longer than {_MAX_KEY_CHARS} characters.")
            ask = Ask(
                request=request,
                bearer=None,
                idempotency_key=key,
                payload_sha256=hashlib.sha256(encode_json(request)).hexdigest(),
                grant=grant,
            )
            turn = self._service.start(ask, anchor, traceparent=given.get("traceparent"), tracestate=given.get("tracestate"))
            return await begun(self._service, turn)

        return await self._answer(begin(), given)

    async def follow(
        self, turn_id: str, *, caller: str, headers: Mapping[str, str] | None = None, after: str | None = None
    ) -> Answer:
        """Follows or replays a turn: `GET /v1/turns/{id}/events`. `after` is the query parameter; `Last-Event-ID` is read from the headers."""
        given = _Headers(headers)

        async def follow() -> Response[Any]:
            require_contract(given.get("turn-contract"))
            await self._require_owner(turn_id, caller)
            return await followed(self._service, turn_id, after=cursor_of(turn_id, given.get("last-event-id"), after))

        return await self._answer(follow(), given)

    async def look_at(self, turn_id: str, *, caller: str) -> Answer:
        """A turn's state, and its terminal once there is one: `GET /v1/turns/{id}`."""

        async def look() -> Response[Any]:
            await self._require_owner(turn_id, caller)
            return await looked_at(self._service, turn_id)

        return await self._answer(look(), _Headers(None))

    async def cancel(self, turn_id: str, *, caller: str) -> Answer:
        """Stops a turn: `POST /v1/turns/{id}/cancel`."""

        async def cancel() -> Response[Any]:
            await self._require_owner(turn_id, caller)
            return await cancelled(self._service, turn_id)

        return await self._answer(cancel(), _Headers(None))

    def contract(self) -> Answer:
        """Versions and limits: `GET /.well-known/turn-contract`."""
        body = msgspec.json.encode(contract_document(self._service))
        return Answer(200, {**HEADERS, "Content-Type": "application/json"}, body)

    async def _require_owner(self, turn_id: str, caller: str) -> None:
        if await owner_of(self._service, turn_id) != caller:
            raise problems.not_found("turn")

    async def _answer(self, work: Coroutine[Any, Any, Response[Any]], given: _Headers) -> Answer:
        """What came of it, as plain data; a refusal is a problem document."""
        try:
            response = await work
        except problems.Rejected as rejected:
            if rejected.status == 503:
                self._service.metrics.rejected(rejected.status)
            response = problem(rejected, trace_id_in(given.get("traceparent")))
        headers = {**HEADERS, "Cache-Control": "no-store", **response.headers}
        if response.media_type is not None:
            headers["Content-Type"] = str(response.media_type)
        status = response.status_code or 200
        if isinstance(response, EventStream):
            return Answer(status, headers, _pieces(self._service, response.frames))
        return Answer(status, headers, response.content or b"")


async def _pieces(service: TurnService, frames: Frames) -> AsyncGenerator[bytes, None]:
    """The frames as they come. When the iterator is closed, the viewer has left."""
    service.streams += 1
    try:
        while (data := await frames.next()) is not None:
            yield data
    finally:
        service.streams -= 1
        frames.close()


def _decode(body: bytes, max_bytes: int) -> TurnRequest:
    if len(body) > max_bytes:
        raise problems.too_large(f"The body is longer than {max_bytes} bytes.")
    try:
        return msgspec.json.decode(body, type=TurnRequest)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise problems.invalid(f"The body is no request for a turn: {error}") from None


class _Headers:
    """A request's headers, whatever their case."""

    def __init__(self, headers: Mapping[str, str] | None) -> None:
        self._headers = {name.lower(): value for name, value in (headers or {}).items()}

    def get(self, name: str) -> str | None:
        """One of them, by its name in lower case."""
        return self._headers.get(name)


class SyncTurnRuntime:
    """A runtime for code that is not asynchronous, such as WSGI: its event loop runs in a thread of its own. Thread-safe.

    Each stream holds the thread that sends it, so a server that runs it needs a thread for every viewer.
    """

    def __init__(self, settings: ServiceSettings | None = None, *, provider: Provider | None = None) -> None:
        self.runtime = TurnRuntime(settings, provider=provider)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="turns", daemon=True)

    def start(self) -> None:
        """Begins to take turns."""
        self._thread.start()
        self.runtime.start()

    def close(self) -> None:
        """Ends the turns that run, then the loop. Blocks."""
        self.runtime.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def ask(self, body: bytes, *, caller: str, headers: Mapping[str, str] | None = None) -> SyncAnswer:
        """Begins a turn."""
        return self._sync(self.runtime.ask(body, caller=caller, headers=headers))

    def follow(
        self, turn_id: str, *, caller: str, headers: Mapping[str, str] | None = None, after: str | None = None
    ) -> SyncAnswer:
        """Follows or replays a turn."""
        return self._sync(self.runtime.follow(turn_id, caller=caller, headers=headers, after=after))

    def look_at(self, turn_id: str, *, caller: str) -> SyncAnswer:
        """A turn's state."""
        return self._sync(self.runtime.look_at(turn_id, caller=caller))

    def cancel(self, turn_id: str, *, caller: str) -> SyncAnswer:
        """Stops a turn."""
        return self._sync(self.runtime.cancel(turn_id, caller=caller))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def _sync(self, work: Coroutine[Any, Any, Answer]) -> SyncAnswer:
        answer = self._run(work)
        body = answer.body if isinstance(answer.body, bytes) else self._iterate(answer.body)
        return SyncAnswer(answer.status, answer.headers, body)

    def _iterate(self, pieces: AsyncGenerator[bytes, None]) -> Iterator[bytes]:
        async def step() -> bytes | None:
            return await anext(pieces, None)

        async def leave() -> None:
            await pieces.aclose()

        try:
            while (data := self._run(step())) is not None:
                yield data
        finally:
            self._run(leave())
