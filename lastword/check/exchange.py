"""One HTTP exchange on a raw socket, with the time of every piece that came.

Owns a connection from its first byte to its last. Bytes are parsed by h11, which is strict; what it will not read is kept as `broken`, never
raised: a server that sends garbage is a finding, not an accident. Invariant: every wait is bounded by the `Budget`, every body by `MAX_BYTES`.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import Literal, Self
from urllib.parse import urlsplit

import h11
from msgspec import Struct

from lastword.check.case import Failed
from lastword.errors import LastwordError

MAX_BYTES = 64 * 1024 * 1024
"""The longest response that is read, in bytes."""

CONNECT_S = 5.0
_HEAD_BYTES = 65_536

End = Literal["open", "complete", "eof", "reset", "broken", "left"]


class Unreachable(LastwordError):
    """No connection could be made."""


class OutOfTime(Failed):
    """What was waited for did not come within the case's time."""


class Budget:
    """The time that is left to a case, in seconds."""

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left_s(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self._end - time.monotonic())

    def wait_for(self, condition: Callable[[], object], timeout_s: float, what: str) -> None:
        """Polls until the condition is true.

        Raises:
            OutOfTime: it did not come true in time.
        """
        end = time.monotonic() + min(timeout_s, self.left_s)
        while not condition():
            if time.monotonic() >= end:
                raise OutOfTime(f"{what}: not within {timeout_s:g} s")
            time.sleep(0.01)

    def pause(self, seconds: float) -> None:
        """Waits, within what is left."""
        time.sleep(min(seconds, self.left_s))


class Target(Struct, frozen=True, kw_only=True):
    """Where the server under test listens."""

    host: str
    port: int
    tls: bool = False
    path: str = ""

    @classmethod
    def of(cls, url: str) -> Target:
        """The target of a base URL.

        Raises:
            ValueError: it is no http or https URL.
        """
        parts = urlsplit(url if "//" in url else f"http://{url}")
        plain = all("!" <= character <= "~" for character in parts.netloc + parts.path)
        if parts.scheme not in {"http", "https"} or not parts.hostname or not plain:
            raise ValueError(f"{url!r} is no address such as http://127.0.0.1:8000")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(host=parts.hostname, port=port, tls=parts.scheme == "https", path=parts.path.rstrip("/"))

    @property
    def authority(self) -> str:
        """Host and port, as the `Host` header names them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self.tls else 'http'}://{self.authority}{self.path}"

    def connect(self, receive_buffer: int | None = None) -> socket.socket:
        """A connection.

        Raises:
            Unreachable: there is none to be had.
        """
        sock: socket.socket | None = None
        try:
            family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
            sock = socket.socket(family) if receive_buffer else socket.create_connection((self.host, self.port), CONNECT_S)
            if receive_buffer:  # has to be set before the handshake to count
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
                sock.settimeout(CONNECT_S)
                sock.connect((self.host, self.port))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return ssl.create_default_context().wrap_socket(sock, server_hostname=self.host) if self.tls else sock
        except (OSError, UnicodeError) as error:  # a host name that cannot be one is a UnicodeError
            if sock is not None:
                sock.close()
            hint = "; is it http:// and not https://?" if isinstance(error, ssl.SSLError) else ""
            raise Unreachable(f"no connection to {self.url}: {error}{hint}") from error


class Piece(Struct, frozen=True):
    """Bytes of a body and when they came (monotonic seconds)."""

    at: float
    data: bytes


class Exchange:
    """One request and its response. Opened at once; read as far as the caller wants."""

    def __init__(
        self,
        target: Target,
        method: str,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes,
        budget: Budget,
        *,
        receive_buffer: int | None = None,
        held: bool = False,
    ) -> None:
        self.budget = budget
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.pieces: list[Piece] = []
        self.raw = bytearray()
        self.end: End = "open"
        self.why_broken = ""
        self.trailing = b""
        self.ended_at: float | None = None
        self.closed_at: float | None = None
        self._size = 0
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES)
        length = [("Content-Length", str(len(body)))] if body or method == "POST" else []
        every = [("Host", target.authority), ("Connection", "close"), *headers, *length]
        try:
            request = h11.Request(method=method, target=target.path + path, headers=every)
        except (h11.LocalProtocolError, UnicodeError) as error:  # ids and cursors are the server's own words
            raise Failed(f"{method} {path!r} cannot be asked for with the server's own ids: {error}") from error
        self._sock = target.connect(receive_buffer)
        out = self._h11.send(request) or b""
        out += (self._h11.send(h11.Data(data=body)) or b"") if body else b""
        out += self._h11.send(h11.EndOfMessage()) or b""
        self._held = out[-1:] if held else b""
        self._send(out[:-1] if held else out)

    def release(self) -> None:
        """Sends the last byte of a request that was `held`, so that many can be completed at one moment."""
        self._send(self._held)
        self._held = b""

    def _send(self, data: bytes) -> None:
        self.sent_at = time.monotonic()
        try:
            self._sock.settimeout(max(1.0, self.budget.left_s))
            self._sock.sendall(data)
        except OSError:
            pass  # a server may answer and close before it has read everything: what it said is read all the same

    @property
    def body(self) -> bytes:
        """The body as far as it was read."""
        return b"".join(piece.data for piece in self.pieces)

    @property
    def size(self) -> int:
        """Bytes of the body so far."""
        return self._size

    def header(self, name: str) -> str | None:
        """A header's value; None where there is none."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    def receive(self, timeout_s: float, max_bytes: int = 65_536) -> bool:
        """Takes in what comes next; false after `timeout_s` of silence, or where nothing can come any more."""
        if self.closed_at is not None:
            return False
        try:
            self._sock.settimeout(max(0.001, min(timeout_s, self.budget.left_s)))
            data = self._sock.recv(max_bytes)
        except TimeoutError:
            return False
        except OSError:
            self._closed("reset")
            return False
        now = time.monotonic()
        self.raw += data
        self._parse(data, now)
        if not data:
            self._closed("eof")
        if len(self.raw) > MAX_BYTES:
            self._closed("broken", f"the response is longer than {MAX_BYTES} bytes")
        return True

    def _parse(self, data: bytes, now: float) -> None:
        if self.end != "open":
            self.trailing += data
            return
        try:
            self._h11.receive_data(data)
            while True:
                event = self._h11.next_event()
                if isinstance(event, h11.Response):
                    self.status = event.status_code
                    self.headers = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
                elif isinstance(event, h11.Data):
                    self.pieces.append(Piece(now, bytes(event.data)))
                    self._size += len(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    self.end, self.ended_at = "complete", now
                    self.trailing += self._h11.trailing_data[0]
                    return
                elif not isinstance(event, h11.InformationalResponse):
                    return  # more is needed, or nothing can come any more
        except h11.RemoteProtocolError as error:
            if data:
                self._closed("broken", str(error))
            else:
                self._closed("eof", str(error))

    def _closed(self, end: End, why: str = "") -> None:
        now = time.monotonic()
        if self.end == "open":
            self.end, self.why_broken, self.ended_at = end, why, now
        self.closed_at = self.closed_at or now
        self._sock.close()

    def read_head(self, timeout_s: float | None = None) -> Self:
        """Reads until status and headers are there.

        Raises:
            OutOfTime: they did not come in time.
        """
        self.read_until(lambda: self.status or self.end != "open", timeout_s, "the head of a response")
        return self

    def read_until(self, condition: Callable[[], object], timeout_s: float | None, what: str, *, step: int = 65_536) -> None:
        """Reads until the condition is true, or the response has ended.

        Raises:
            OutOfTime: neither came in time.
        """
        end = time.monotonic() + min(timeout_s or self.budget.left_s, self.budget.left_s)
        while not condition() and self.end == "open":
            left = end - time.monotonic()
            if left <= 0:
                raise OutOfTime(f"{what} did not come in time", self.evidence())
            self.receive(left, step)

    def read_all(self, timeout_s: float | None = None) -> Self:
        """Reads to the end of the response.

        Raises:
            OutOfTime: it did not end in time.
        """
        self.read_until(lambda: False, timeout_s, "the end of the response")
        return self

    def read_close(self, timeout_s: float) -> bool:
        """Waits for the server to close the connection; false where it does not."""
        end = time.monotonic() + timeout_s
        while self.closed_at is None and (left := end - time.monotonic()) > 0:
            self.receive(left)
        return self.closed_at is not None

    def leave(self, *, reset: bool = False) -> None:
        """Closes our side: politely, or by a reset."""
        if self.closed_at is None:
            if reset:
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._closed("left")

    def evidence(self, head: int = 600, tail: int = 1400) -> bytes:
        """The first and the last of what was received."""
        raw = bytes(self.raw)
        if len(raw) <= head + tail:
            return raw
        return raw[:head] + b"\n[... %d bytes ...]\n" % (len(raw) - head - tail) + raw[-tail:]
