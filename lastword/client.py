"""A client that reads turns, synchronous and asynchronous.

Shows the events of a turn one by one, checks them against the grammar, ignores events that it does not know, and resumes a stream whose connection was
dropped. What is not input and output is shared: `TurnReader` turns bytes into checked events.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack

import httpx2
import msgspec

from lastword.errors import TurnRejected, TurnUnreachable
from lastword.events import Ack, AnyEvent, Chunk, Done, Error, Ext, Known, OnDisconnect, Terminal
from lastword.grammar import TurnGrammar
from lastword.ids import frame_id
from lastword.wire import FrameParser, decode_event

RESUME_TRIES = 5
RESUME_PAUSE_S = 0.25
CONNECT_TIMEOUT_S = 5.0
SILENCE_TIMEOUT_S = 60.0
"""Silence after which a connection counts as dropped. Servers send a heartbeat at least every 15 s."""


class TurnReader:
    """Bytes of one turn's stream to events, over as many connections as it takes."""

    def __init__(self) -> None:
        self._grammar = TurnGrammar()
        self._parser = FrameParser()
        self.ack: Ack | None = None

    @property
    def terminal(self) -> Terminal | None:
        """The terminal, once it was read."""
        return self._grammar.terminal

    @property
    def last_event_id(self) -> str | None:
        """The cursor to resume behind."""
        grammar = self._grammar
        return None if grammar.turn_id is None else frame_id(grammar.turn_id, grammar.seq)

    @property
    def turn_id(self) -> str | None:
        """The turn, once its first event was read."""
        return self._grammar.turn_id

    def feed(self, data: bytes) -> list[Known]:
        """The events that these bytes complete, without those of unknown types.

        Raises:
            WireError: the bytes are no event stream.
            ContractViolation: an event may not stand where it stands.
        """
        events: list[Known] = []
        for frame in self._parser.feed(data):
            event: AnyEvent = decode_event(frame)
            self._grammar.feed(event)
            if isinstance(event, Ack):
                self.ack = event
            if not isinstance(event, Ext):
                events.append(event)
        return events

    def reconnect(self) -> None:
        """Forgets half a frame: the next connection begins behind the last whole event."""
        self._parser = FrameParser()


class TurnResult(msgspec.Struct, frozen=True):
    """A turn as read to its end. `text` is what was streamed; `answer` the canonical answer, empty for an error."""

    ack: Ack | None
    terminal: Terminal
    text: str

    @property
    def answer(self) -> str:
        """The canonical answer."""
        return self.terminal.metadata.answer if isinstance(self.terminal, Done) else ""

    @property
    def whole(self) -> bool:
        """Whether the question was answered, and not in part."""
        return isinstance(self.terminal, Done) and not self.terminal.metadata.partial and bool(self.answer)


class _Asked(msgspec.Struct, frozen=True):
    """One POST: what both clients send."""

    body: bytes
    headers: dict[str, str]


class Wishes(TypedDict, total=False):
    """What may be asked for with a question; everything has a default at the server."""

    conversation_id: str | None
    route: str | None
    model_tier: str | None
    deadline_ms: int | None
    on_disconnect: OnDisconnect | None
    metadata: Mapping[str, str] | None
    idempotency_key: str | None


def _ask(message: str, wishes: Wishes) -> _Asked:
    fields: dict[str, Any] = {
        "message": message,
        "conversationId": wishes.get("conversation_id"),
        "route": wishes.get("route"),
        "modelTier": wishes.get("model_tier"),
        "deadlineMs": wishes.get("deadline_ms"),
        "onDisconnect": wishes.get("on_disconnect"),
        "metadata": dict(wishes.get("metadata") or {}) or None,
    }
    body = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    key = wishes.get("idempotency_key")
    return _Asked(body, headers | ({"Idempotency-Key": key} if key else {}))


def _auth(api_key: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {api_key}"} if api_key else {}


def _rejection(response: httpx2.Response) -> TurnRejected:
    """The error of a response that is no stream; its body was read."""
    title, detail = response.reason_phrase, ""
    try:
        problem = json.loads(response.content)
        title, detail = str(problem.get("title", title)), str(problem.get("detail", ""))
    except (ValueError, AttributeError):
        detail = response.text[:200]
    retry_after = response.headers.get("retry-after", "")
    return TurnRejected(response.status_code, title, detail, float(retry_after) if retry_after.isdigit() else None)


def _is_stream(response: httpx2.Response) -> bool:
    return response.status_code == 200 and response.headers.get("content-type", "").startswith("text/event-stream")


def _resumption(reader: TurnReader, tries: int, error: Exception | None, base_url: str) -> tuple[str, dict[str, str]]:
    """Where to go on after a connection ended without a terminal.

    Raises:
        TurnUnreachable: the turn was not acknowledged, or the tries are spent.
    """
    cursor = reader.last_event_id
    if cursor is None:
        raise TurnUnreachable(f"no answer from {base_url}: {error or 'the connection ended before the first event'}") from error
    if tries >= RESUME_TRIES:
        raise TurnUnreachable(f"turn {reader.turn_id}: the stream could not be resumed after {tries} tries: {error}") from error
    reader.reconnect()
    path = reader.ack.resume_url if reader.ack else f"/v1/turns/{reader.turn_id}/events"
    return path, {"Last-Event-ID": cursor, "Accept": "text/event-stream"}


_TIMEOUT = httpx2.Timeout(SILENCE_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)


class TurnClient:
    """Reads turns, blocking. Use as a context manager, or `close` it."""

    def __init__(self, base_url: str, api_key: str | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = httpx2.Client(base_url=self.base_url, headers=_auth(api_key), timeout=_TIMEOUT, trust_env=False)

    def stream(self, message: str, **wishes: Unpack[Wishes]) -> Iterator[Known]:
        """The events of a new turn, to its terminal.

        Raises:
            TurnRejected: the server refused the question.
            TurnUnreachable: no connection, or one that could not be resumed.
            WireError, ContractViolation: the server does not keep the contract.
        """
        asked = _ask(message, wishes)
        reader = TurnReader()
        request = self._http.build_request("POST", "/v1/turns", content=asked.body, headers=asked.headers)
        for tries in range(RESUME_TRIES + 1):
            failure: Exception | None = None
            try:
                response = self._http.send(request, stream=True)
                try:
                    if not _is_stream(response):
                        response.read()
                        raise _rejection(response)
                    for data in response.iter_raw():
                        yield from reader.feed(data)
                finally:
                    response.close()
            except httpx2.HTTPError as error:
                failure = error
            if reader.terminal is not None:
                return
            path, headers = _resumption(reader, tries, failure, self.base_url)
            time.sleep(RESUME_PAUSE_S * (tries + 1))
            request = self._http.build_request("GET", path, headers=headers)

    def ask(self, message: str, **wishes: Unpack[Wishes]) -> TurnResult:
        """A whole turn; the wishes are those of `stream`."""
        return _collect(list(self.stream(message, **wishes)))

    def get_turn(self, turn_id: str) -> dict[str, Any]:
        """State, last sequence number and terminal of a turn, as JSON."""
        return self._json("GET", f"/v1/turns/{turn_id}")

    def cancel(self, turn_id: str) -> dict[str, Any]:
        """Stops a turn; its state as JSON."""
        return self._json("POST", f"/v1/turns/{turn_id}/cancel")

    def _json(self, method: str, path: str) -> dict[str, Any]:
        try:
            response = self._http.request(method, path)
        except httpx2.HTTPError as error:
            raise TurnUnreachable(f"no answer from {self.base_url}: {error}") from error
        if not response.is_success:
            raise _rejection(response)
        body: dict[str, Any] = response.json()
        return body

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class AsyncTurnClient:
    """Reads turns in an event loop. Use as an async context manager, or `aclose` it."""

    def __init__(self, base_url: str, api_key: str | None = None, *, max_connections: int = 256) -> None:
        self.base_url = base_url.rstrip("/")
        limits = httpx2.Limits(max_connections=max_connections, max_keepalive_connections=32)
        self._http = httpx2.AsyncClient(
            base_url=self.base_url, headers=_auth(api_key), timeout=_TIMEOUT, limits=limits, trust_env=False
        )

    async def stream(self, message: str, **wishes: Unpack[Wishes]) -> AsyncIterator[Known]:
        """The events of a new turn, to its terminal; raises what `TurnClient.stream` raises."""
        asked = _ask(message, wishes)
        reader = TurnReader()
        request = self._http.build_request("POST", "/v1/turns", content=asked.body, headers=asked.headers)
        for tries in range(RESUME_TRIES + 1):
            failure: Exception | None = None
            try:
                response = await self._http.send(request, stream=True)
                try:
                    if not _is_stream(response):
                        await response.aread()
                        raise _rejection(response)
                    async for data in response.aiter_raw():
                        for event in reader.feed(data):
                            yield event
                finally:
                    await response.aclose()
            except httpx2.HTTPError as error:
                failure = error
            if reader.terminal is not None:
                return
            path, headers = _resumption(reader, tries, failure, self.base_url)
            await asyncio.sleep(RESUME_PAUSE_S * (tries + 1))
            request = self._http.build_request("GET", path, headers=headers)

    async def ask(self, message: str, **wishes: Unpack[Wishes]) -> TurnResult:
        """A whole turn; the wishes are those of `stream`."""
        return _collect([event async for event in self.stream(message, **wishes)])

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _collect(events: list[Known]) -> TurnResult:
    terminal = events[-1]
    if not isinstance(terminal, Done | Error):
        raise TurnUnreachable("the stream ended without a terminal")
    ack = next((event for event in events if isinstance(event, Ack)), None)
    return TurnResult(ack, terminal, "".join(event.text for event in events if isinstance(event, Chunk)))
