"""A turn's event stream as it was received: blocks, events, comments, each with its time.

Reads an `Exchange` leniently, so that a case can say precisely what is wrong. Invariant: `blocks` joined are the body as far as whole blocks came.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any, Self

from msgspec import Struct

from lastword.check.case import Failed
from lastword.check.exchange import Exchange
from lastword.errors import WireError
from lastword.wire import FrameParser

TERMINALS = frozenset({"done", "error"})


class Event(Struct, frozen=True, kw_only=True):
    """One event as it came. `data` is empty where it was no JSON object."""

    kind: str
    id: str | None
    data: dict[str, Any]
    text: str
    at: float

    @property
    def seq(self) -> Any:
        """The event's own sequence number, whatever it holds."""
        return self.data.get("seq")


class Comment(Struct, frozen=True):
    """A comment line and when it came."""

    at: float
    text: bytes


class TurnStream:
    """The events of one response. Each reading method goes on where the last one stopped."""

    def __init__(self, exchange: Exchange, script: str = "", mark: str = "") -> None:
        self.exchange = exchange
        self.script = script
        self.mark = mark
        self.events: list[Event] = []
        self.comments: list[Comment] = []
        self._parser = FrameParser(64 * 1024 * 1024)
        self._taken = 0
        self._line = bytearray()
        self._unreadable = ""

    # --- reading

    def head(self) -> Self:
        """Reads status and headers, and expects an event stream.

        Raises:
            Failed: it is none.
        """
        self.exchange.read_head()
        kind = (self.exchange.header("content-type") or "").partition(";")[0].strip().lower()
        if self.exchange.status != 200 or kind != "text/event-stream":
            self.exchange.read_all(5.0)
            raise Failed(
                f"the answer is {self.exchange.status} {kind or 'without content type'}, no event stream", self.evidence()
            )
        return self

    def read(self, condition: Callable[[], object], what: str, timeout_s: float | None = None, *, step: int = 65_536) -> Self:
        """Reads until the condition is true or the response ends; everything that came is parsed."""
        self._take()

        def reached() -> object:
            self._take()
            return condition()

        self.exchange.read_until(reached, timeout_s, what, step=step)
        self._take()
        return self

    def read_events(self, count: int, timeout_s: float | None = None) -> Self:
        """Reads until so many events are there.

        Raises:
            Failed: the response ended before.
        """
        self.read(lambda: len(self.events) >= count, f"event {count}", timeout_s)
        self.expect(len(self.events) >= count, f"the stream ended after {len(self.events)} events, {count} were waited for")
        return self

    def read_chunk(self, count: int = 1, timeout_s: float | None = None) -> Self:
        """Reads until so many chunks are there.

        Raises:
            Failed: the response ended before.
        """
        self.read(lambda: len(self.chunks) >= count or self.terminal, f"chunk {count}", timeout_s)
        self.expect(len(self.chunks) >= count, f"the turn ended with {len(self.chunks)} chunks, {count} were waited for")
        return self

    def read_end(self, timeout_s: float | None = None, *, step: int = 65_536) -> Self:
        """Reads to the end of the response."""
        return self.read(lambda: False, "the end of the stream", timeout_s, step=step)

    def finish(self, timeout_s: float | None = None) -> Self:
        """Reads to the end, and expects a terminal.

        Raises:
            Failed: the stream ended without one.
        """
        self.read_end(timeout_s)
        self.expect(self.terminal is not None, f"the stream ended ({self.exchange.end}) without a terminal")
        return self

    def _take(self) -> None:
        pieces = self.exchange.pieces
        while self._taken < len(pieces):
            piece = pieces[self._taken]
            self._taken += 1
            self._note_comments(piece.data, piece.at)
            if self._unreadable:
                continue
            try:
                frames = self._parser.feed(piece.data)
            except WireError as error:
                self._unreadable = str(error)
                continue
            for frame in frames:
                try:
                    data = json.loads(frame.data)
                except ValueError:
                    data = {}
                fields = data if isinstance(data, dict) else {}
                self.events.append(Event(kind=frame.event, id=frame.id, data=fields, text=frame.data, at=piece.at))

    def _note_comments(self, data: bytes, at: float) -> None:
        if b"\n" not in data:  # one byte of a long line, perhaps: the line is not to be copied for each
            self._line += data
            return
        *lines, rest = (bytes(self._line) + data).split(b"\n")
        self._line = bytearray(rest)
        self.comments += [Comment(at, line) for line in lines if line.startswith(b":")]

    # --- what is there

    @property
    def body(self) -> bytes:
        """The raw body."""
        return self.exchange.body

    @property
    def blocks(self) -> list[bytes]:
        """Every whole block that holds more than comments, with its blank line."""
        whole = self.body.split(b"\n\n")[:-1]
        kept = (b"\n".join(line for line in block.split(b"\n") if not line.startswith(b":")) for block in whole)
        return [block + b"\n\n" for block in kept if block.strip()]

    @property
    def chunks(self) -> list[Event]:
        """The chunk events."""
        return [event for event in self.events if event.kind == "chunk"]

    @property
    def text(self) -> str:
        """What was streamed."""
        return "".join(str(event.data.get("text", "")) for event in self.chunks)

    @property
    def terminals(self) -> list[Event]:
        """Every terminal; a conforming stream has one."""
        return [event for event in self.events if event.kind in TERMINALS]

    @property
    def terminal(self) -> Event | None:
        """The first terminal, once it is there."""
        return next(iter(self.terminals), None)

    @property
    def ack(self) -> dict[str, Any]:
        """The data of `ack`.

        Raises:
            Failed: the stream did not begin with one.
        """
        first = self.events[0] if self.events else None
        self.expect(first is not None and first.kind == "ack", "the stream does not begin with ack")
        return self.events[0].data

    @property
    def turn_id(self) -> str:
        """The turn's id, as the first event names it."""
        named = self.events[0].data.get("turnId") if self.events else None
        if not isinstance(named, str) or not named:
            raise Failed("the first event names no turnId", self.evidence())
        return named

    @property
    def metadata(self) -> dict[str, Any]:
        """The terminal's metadata.

        Raises:
            Failed: there is no terminal, or it carries none.
        """
        found = self.terminal.data.get("metadata") if self.terminal else None
        if not isinstance(found, dict):
            raise Failed("the terminal carries no metadata", self.evidence())
        return found

    def objects(self, name: str) -> list[dict[str, Any]]:
        """A list of objects in the terminal's metadata; empty where it is absent.

        Raises:
            Failed: it is something else.
        """
        value = self.metadata.get(name) or []
        sound = isinstance(value, list) and all(isinstance(item, dict) for item in value)
        self.expect(sound, f"{name} is no list of objects: {str(value)[:100]}")
        return value if isinstance(value, list) else []

    def fields(self, name: str) -> dict[str, Any]:
        """An object in the terminal's metadata.

        Raises:
            Failed: it is absent, or something else.
        """
        value = self.metadata.get(name)
        self.expect(isinstance(value, dict), f"{name} is no object: {str(value)[:100]}")
        return value if isinstance(value, dict) else {}

    @property
    def status(self) -> str:
        """`completionStatus` of a done; `error:CODE` of an error; empty where there is no terminal."""
        if self.terminal is None:
            return ""
        if self.terminal.kind == "error":
            return f"error:{self.terminal.data.get('code')}"
        return str(self.metadata.get("completionStatus"))

    def digest(self) -> str:
        """SHA-256 of the streamed text, as hexadecimal digits."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    # --- judging

    def evidence(self) -> bytes:
        """What was received, with the script that the provider followed."""
        script = f"(provider's script: {self.script})\n".encode() if self.script else b""
        return script + self.exchange.evidence()

    def expect(self, holds: object, message: str) -> None:
        """Raises `Failed` with this stream as the evidence where something does not hold."""
        if self._unreadable:
            raise Failed(f"the stream cannot be read: {self._unreadable}", self.evidence())
        if not holds:
            raise Failed(message, self.evidence())

    def expect_status(self, *allowed: str) -> None:
        """Expects the turn to have ended in one of these ways; `error` allows every error code."""
        status = self.status
        fits = status in allowed or ("error" in allowed and status.startswith("error:"))
        self.expect(fits, f"the turn ended as {status or 'nothing'}, expected {' or '.join(allowed)}")

    def expect_partial(self, *, reason: str) -> None:
        """Expects a `done` that keeps what was shown: interrupted, partial, with this reason."""
        self.expect_status("interrupted")
        self.expect(self.metadata.get("partial") is True, "the terminal of a cut answer does not say partial=true")
        self.expect(self.metadata.get("reason") == reason, f"reason is {self.metadata.get('reason')!r}, expected {reason!r}")

    def leave(self, *, reset: bool = False) -> None:
        """Closes our side of the connection."""
        self.exchange.leave(reset=reset)

    def since_sent(self, at: float | None = None) -> float:
        """Seconds from our request to a moment (now, if none is given)."""
        return (time.monotonic() if at is None else at) - self.exchange.sent_at
