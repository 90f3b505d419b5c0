"""The steps that a provider's script is made of: what one call sends, and how it breaks.

Each `step_NAME` writes to the connection, waits, or ends the call by raising `Cut`. Knows the Messages protocol and nothing of who calls. Invariant: no
step lasts longer than `HANG_S`.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from lastword.check.provider import Call

HANG_S = 90.0
PING_S = 0.02
FAR_FUTURE = "Wed, 21 Oct 2099 07:28:00 GMT"
WORDS = ("A stream ", "is partial ", "when it was ", "cut.")
SOURCE = "https://provider.example/cited"
WEB = "https://web.example/found"
SECRET = "sk-ant-000"
_ERROR_WORDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


def _pieces(size: int) -> Iterator[str]:
    piece = ("Straße 流 🌊 " + "lorem ipsum dolor sit amet " * 150)[:4000]
    while size > 0:
        part = piece[: max(1, min(len(piece), size))]
        yield part
        size -= len(part.encode())


def filling(size: int) -> str:
    """The text of the step `fill=SIZE`."""
    return "".join(_pieces(size))


class Cut(Exception):
    """Ends the connection here."""


class Steps:
    """One call's answer, step by step."""

    def __init__(self, handler: BaseHTTPRequestHandler, call: Call, ending: threading.Event) -> None:
        self._handler = handler
        self._call = call
        self._ending = ending
        self._begun = False
        self._index = 0
        self._open = False

    def take(self, step: str) -> bool:
        """Does one step; false where there is none of that name."""
        name, _, argument = step.partition("=")
        if name.isdigit():
            self._status(int(name), argument)
            return True
        action = getattr(self, f"step_{name}", None)
        if action is None:
            return False
        if name not in {"silent", "late"} and not self._begun:
            self._begin()
        action(argument)
        return True

    # --- the protocol

    def _status(self, status: int, retry_after: str) -> None:
        error = {"type": _ERROR_WORDS.get(status, "api_error"), "message": f"secret {SECRET} inside"}
        body = json.dumps({"type": "error", "error": error}).encode()
        handler = self._handler
        handler.send_response(status)
        handler.send_header("content-type", "application/json")
        handler.send_header("content-length", str(len(body)))
        handler.send_header("request-id", "req_fake")
        if retry_after:
            handler.send_header("retry-after", FAR_FUTURE if retry_after == "date" else retry_after)
        handler.end_headers()
        handler.wfile.write(body)

    def _begin(self) -> None:
        self._begun = True
        handler = self._handler
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.send_header("transfer-encoding", "chunked")
        handler.send_header("request-id", "req_fake")
        handler.end_headers()
        usage = {"input_tokens": 11, "output_tokens": 1, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}
        message = {"id": "msg_fake", "type": "message", "role": "assistant", "model": "claude-fake", "content": []}
        self._event("message_start", {"message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}})

    def _raw(self, data: bytes) -> None:
        self._handler.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self._handler.wfile.flush()

    def _event(self, kind: str, fields: dict[str, Any]) -> None:
        self._raw(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode())

    def _start_block(self, block: dict[str, Any]) -> None:
        self._close_block()
        self._event("content_block_start", {"index": self._index, "content_block": block})
        self._open = True

    def _start_text(self) -> None:
        if not self._open:
            self._start_block({"type": "text", "text": ""})

    def _delta(self, delta: dict[str, Any]) -> None:
        self._event("content_block_delta", {"index": self._index, "delta": delta})

    def _say(self, text: str) -> None:
        self._start_text()
        self._delta({"type": "text_delta", "text": text})
        self._call.sent.append(time.monotonic())

    def _close_block(self) -> None:
        if self._open:
            self._event("content_block_stop", {"index": self._index})
            self._index += 1
            self._open = False

    def _end(self, stop_reason: str | None) -> None:
        self._close_block()
        self._event(
            "message_delta", {"delta": {"stop_reason": stop_reason, "stop_sequence": None}, "usage": {"output_tokens": 7}}
        )
        self._event("message_stop", {})

    def _finish(self) -> None:
        self._handler.wfile.write(b"0\r\n\r\n")

    def _pause(self, seconds: float) -> None:
        """Waits; notices at once where the other side closes."""
        end = time.monotonic() + min(seconds, HANG_S)
        while (left := end - time.monotonic()) > 0 and not self._ending.is_set():
            readable, _, _ = select.select([self._handler.connection], [], [], min(left, 0.5))
            if readable:
                self._notice_close()
                return

    def _notice_close(self) -> None:
        try:
            data = self._handler.connection.recv(1)
        except OSError:
            data = b""
        if not data:
            self._call.left_at = time.monotonic()
            raise Cut

    # --- text

    def step_text(self, _: str) -> None:
        """Four short pieces."""
        self._close_block()
        for word in WORDS:
            self._say(word)

    def step_say(self, text: str) -> None:
        """One piece, percent-encoded, so that any character can stand in a script."""
        self._say(unquote(text))

    def step_words(self, argument: str) -> None:
        """`words=20@0.03`: twenty pieces, 30 ms apart."""
        count, _, gap = argument.partition("@")
        for n in range(int(count)):
            self._say(f"word{n} ")
            if gap:
                self._pause(float(gap))

    def step_fill(self, size: str) -> None:
        """So many bytes of text, in pieces of a few kilobytes, with characters of every length in UTF-8."""
        for part in _pieces(int(size)):
            self._say(part)

    def step_split(self, _: str) -> None:
        """A character beyond the basic plane, its two halves in two events."""
        self._say("wave ")
        self._say("\ud83c")
        self._say("\udf0a crest")

    def step_half(self, _: str) -> None:
        """One half of a character beyond the basic plane, without the other."""
        self._say("high ")
        self._say("\ud83c")
        self._say(" low")

    # --- other content

    def step_cite(self, source: str) -> None:
        """A citation on the open text, of `SOURCE` or of a percent-encoded address."""
        cited = unquote(source) or SOURCE
        citation = {"type": "search_result_location", "source": cited, "title": "Cited", "cited_text": "x"}
        place = {"search_result_index": 0, "start_block_index": 0, "end_block_index": 1}
        self._delta({"type": "citations_delta", "citation": {**citation, **place}})

    def step_web(self, _: str) -> None:
        """A search of the provider's own, with one result."""
        self._start_block({"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}})
        result = {"type": "web_search_result", "url": WEB, "title": "Found", "encrypted_content": "x"}
        self._start_block({"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [result]})

    def step_thinking(self, _: str) -> None:
        """Thoughts, which nobody is to see."""
        self._start_block({"type": "thinking", "thinking": "", "signature": ""})
        self._delta({"type": "thinking_delta", "thinking": "hm"})
        self._delta({"type": "signature_delta", "signature": "sig"})

    def step_use(self, argument: str) -> None:
        """`use=NAME:INPUT`: asks for a tool, its input percent-encoded JSON; several may follow each other, then `tools`."""
        name, _, given = argument.partition(":")
        self._start_block({"type": "tool_use", "id": f"toolu_{self._index}", "name": name, "input": {}})
        self._delta({"type": "input_json_delta", "partial_json": unquote(given) or "{}"})

    def step_tools(self, _: str) -> None:
        """Ends the message: now the tools are to be run."""
        self._end("tool_use")
        self._finish()

    def step_tool(self, _: str) -> None:
        """Asks for a search, its input in pieces, and ends the message."""
        self._start_block({"type": "tool_use", "id": "toolu_1", "name": "search_knowledge", "input": {}})
        for piece in ('{"que', 'ry": "partial', ' streams"}'):
            self._delta({"type": "input_json_delta", "partial_json": piece})
        self.step_tools("")

    def step_halftool(self, _: str) -> None:
        """A tool's input that breaks off; the next step says why."""
        self._start_block({"type": "tool_use", "id": "toolu_1", "name": "search_knowledge", "input": {}})
        self._delta({"type": "input_json_delta", "partial_json": '{"que'})

    # --- ends and faults

    def step_end(self, _: str) -> None:
        """The whole message has been sent."""
        self._end("end_turn")
        self._finish()

    def step_stop(self, reason: str) -> None:
        """Ends the message with this stop reason."""
        self._end(None if reason == "null" else reason)
        self._finish()

    def step_open_end(self, _: str) -> None:
        """The message ends, the response does not."""
        self._end("end_turn")

    def step_overload(self, _: str) -> None:
        """An overload inside the stream."""
        self.step_error("overloaded_error")

    def step_error(self, word: str) -> None:
        """An error inside the stream, by the provider's word for it."""
        self._event("error", {"error": {"type": word, "message": f"secret {SECRET} inside"}})
        raise Cut

    def step_cut(self, _: str) -> None:
        """A clean end of the response, without `message_stop`."""
        self._finish()
        raise Cut

    def step_reset(self, _: str) -> None:
        """The connection is reset."""
        connection = self._handler.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        raise Cut

    def step_corrupt(self, _: str) -> None:
        """An event that is no JSON."""
        self._raw(b"event: content_block_delta\ndata: {broken\n\n")
        raise Cut

    def step_shapeless(self, _: str) -> None:
        """Sound JSON that is no event of the protocol."""
        self._raw(b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0}\n\n')
        raise Cut

    def step_ping(self, _: str) -> None:
        """One ping."""
        self._event("ping", {})

    def step_hang(self, _: str) -> None:
        """Silent until the other side closes, or for long."""
        self._pause(HANG_S)
        raise Cut

    def step_silent(self, _: str) -> None:
        """Silent before the response's headers, until the other side closes, or for long."""
        self.step_hang("")

    def step_late(self, seconds: str) -> None:
        """A pause before the response's headers."""
        self._pause(float(seconds))

    def step_slow(self, seconds: str) -> None:
        """A pause: `slow=0.5, text, end` has a slow first token."""
        self._pause(float(seconds))

    def step_pings(self, _: str) -> None:
        """Nothing but pings."""
        end = time.monotonic() + HANG_S
        while time.monotonic() < end and not self._ending.is_set():
            self._event("ping", {})
            self._pause(PING_S)
        raise Cut
