"""A local server that speaks the Messages streaming protocol, scripted by the prompt.

A question that holds `[[script: text, cut]]` is answered by those steps, in order; calls after the first of the same transcript take
the next script behind a `|`: `[[script: tool | text, end]]` asks for a tool, and answers when its result comes. Real sockets, chunked
responses, a thread per connection, TLS where a certificate is given. It counts calls and keeps what it was sent.

Steps: every `step_NAME` below, `NAME=ARGUMENT` where it takes one, and any HTTP status (`429=7` and `429=date` with retry-after). A
script with a step that does not exist fails the test that sent it, when the server is left.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

_SCRIPT = re.compile(r"\[\[script:([^\]]*)\]\]")
HANG_S = 30.0
PINGS = 300
FAR_FUTURE = "Wed, 21 Oct 2099 07:28:00 GMT"
WORDS = ("A stream ", "is partial ", "when it was ", "cut.")
SOURCE = "https://provider.example/cited"
WEB = "https://web.example/found"


class _Cut(Exception):
    """Ends the connection here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: object) -> None:
        """Silence."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.owner.calls.append({"body": body, "headers": {k.lower(): v for k, v in self.headers.items()}})
        self.close_connection = True
        script = _script_of(body, self.server.owner)
        try:
            for step in script:
                self._step(step)
        except _Cut:
            pass
        except OSError:
            pass  # the client has gone: that is what many tests are about
        finally:
            self.server.owner.closed_at.append(time.monotonic())

    # --- steps

    def _step(self, step: str) -> None:
        name, _, argument = step.partition("=")
        if name.isdigit():
            return self._status(int(name), argument)
        action: Callable[[str], None] | None = getattr(self, f"step_{name}", None)
        if action is None:
            self.server.owner.unknown_steps.append(name)
            raise _Cut
        if name != "silent" and not getattr(self, "_begun", False):
            self._begin()
        return action(argument)

    def _status(self, status: int, retry_after: str) -> None:
        word = {
            429: "rate_limit_error",
            529: "overloaded_error",
            500: "api_error",
            400: "invalid_request_error",
            401: "authentication_error",
            413: "request_too_large",
        }
        error = {"type": word.get(status, "api_error"), "message": "secret sk-ant-000 inside"}
        body = json.dumps({"type": "error", "error": error}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("request-id", "req_fake")
        if retry_after:
            self.send_header("retry-after", FAR_FUTURE if retry_after == "date" else retry_after)
        self.end_headers()
        self.wfile.write(body)

    def _begin(self) -> None:
        self._begun = True
        self._index = 0
        self._open = False
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.send_header("request-id", "req_fake")
        self.end_headers()
        usage = {"input_tokens": 11, "output_tokens": 1, "cache_read_input_tokens": 3, "cache_creation_input_tokens": 2}
        message = {"id": "msg_fake", "type": "message", "role": "assistant", "model": "claude-fake", "content": []}
        self._event("message_start", {"message": {**message, "stop_reason": None, "stop_sequence": None, "usage": usage}})

    def _raw(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _event(self, kind: str, fields: dict[str, Any]) -> None:
        self._raw(f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode())

    def _start_block(self, block: dict[str, Any]) -> None:
        self._close_block()
        self._event("content_block_start", {"index": self._index, "content_block": block})
        self._open = True

    def _delta(self, delta: dict[str, Any]) -> None:
        self._event("content_block_delta", {"index": self._index, "delta": delta})

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

    def step_text(self, _: str) -> None:
        self._start_block({"type": "text", "text": ""})
        for word in WORDS:
            self._delta({"type": "text_delta", "text": word})

    def step_cite(self, _: str) -> None:
        citation = {"type": "search_result_location", "source": SOURCE, "title": "Cited", "cited_text": "x"}
        self._delta(
            {
                "type": "citations_delta",
                "citation": {**citation, "search_result_index": 0, "start_block_index": 0, "end_block_index": 1},
            }
        )

    def step_web(self, _: str) -> None:
        use = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}}
        self._start_block(use)
        result = {"type": "web_search_result", "url": WEB, "title": "Found", "encrypted_content": "x"}
        self._start_block({"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [result]})

    def step_thinking(self, _: str) -> None:
        self._start_block({"type": "thinking", "thinking": "", "signature": ""})
        self._delta({"type": "thinking_delta", "thinking": "hm"})
        self._delta({"type": "signature_delta", "signature": "sig"})

    def step_tool(self, _: str) -> None:
        self._start_block({"type": "tool_use", "id": "toolu_1", "name": "search_knowledge", "input": {}})
        for piece in ('{"que', 'ry": "partial', ' streams"}'):
            self._delta({"type": "input_json_delta", "partial_json": piece})
        self._end("tool_use")
        self.wfile.write(b"0\r\n\r\n")

    def step_halftool(self, _: str) -> None:
        """A tool's input that breaks off; the next step says why."""
        self._start_block({"type": "tool_use", "id": "toolu_1", "name": "search_knowledge", "input": {}})
        self._delta({"type": "input_json_delta", "partial_json": '{"que'})

    def step_end(self, _: str) -> None:
        self._end("end_turn")
        self.wfile.write(b"0\r\n\r\n")

    def step_stop(self, reason: str) -> None:
        self._end(None if reason == "null" else reason)
        self.wfile.write(b"0\r\n\r\n")

    def step_open_end(self, _: str) -> None:
        """The message ends, the response does not."""
        self._end("end_turn")

    def step_overload(self, _: str) -> None:
        self.step_error("overloaded_error")

    def step_error(self, word: str) -> None:
        """An error inside the stream, by the provider's word for it."""
        self._event("error", {"error": {"type": word, "message": "secret sk-ant-000 inside"}})
        raise _Cut

    def step_cut(self, _: str) -> None:
        """A clean end of the response, without `message_stop`."""
        self.wfile.write(b"0\r\n\r\n")
        raise _Cut

    def step_reset(self, _: str) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        raise _Cut

    def step_corrupt(self, _: str) -> None:
        self._raw(b"event: content_block_delta\ndata: {broken\n\n")
        raise _Cut

    def step_shapeless(self, _: str) -> None:
        """Sound JSON that is no event of the protocol."""
        self._raw(b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0}\n\n')
        raise _Cut

    def step_ping(self, _: str) -> None:
        self._event("ping", {})

    def step_hang(self, _: str) -> None:
        """Silent until the client closes, or for long."""
        self.connection.settimeout(HANG_S)
        self.connection.recv(1)
        raise _Cut

    def step_silent(self, _: str) -> None:
        """Silent before the response's headers, until the client closes, or for long."""
        self.step_hang("")

    def step_slow(self, seconds: str) -> None:
        """A pause: `slow=0.5, text, end` has a slow first token."""
        self.server.owner.ending.wait(min(float(seconds), HANG_S))

    def step_pings(self, _: str) -> None:
        """Nothing but pings."""
        for _n in range(PINGS):
            self._event("ping", {})
            if self.server.owner.ending.wait(0.02):
                raise _Cut


def _script_of(body: dict[str, Any], owner: FakeAnthropic) -> list[str]:
    text = json.dumps(body["messages"])
    match = _SCRIPT.search(text)
    scripts = [part.strip() for part in (match[1] if match else "text, end").split("|")]
    rounds = sum(1 for message in body["messages"] if message["role"] == "assistant")
    if len(scripts) > 1 and rounds == 0:
        # the same transcript again: a retry
        with owner.lock:
            rounds = owner.tries.get(text, 0)
            owner.tries[text] = rounds + 1
    chosen = scripts[min(rounds, len(scripts) - 1)]
    return [step.strip() for step in chosen.split(",") if step.strip()]


class _Server(ThreadingHTTPServer):
    """One thread a connection; a TLS handshake is made in that thread, so that a silent client holds up nobody."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, owner: FakeAnthropic, port: int) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", port), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        context = self.owner.tls
        if context is not None:
            request.settimeout(HANG_S)
            request = context.wrap_socket(request, server_side=True)
        try:
            super().finish_request(request, client_address)
        finally:
            if context is not None:
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error here."""


class FakeAnthropic:
    """The server, as a context manager. `calls` holds every request, `closed_at` the monotonic time when each ended."""

    def __init__(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.ending = threading.Event()
        self.unknown_steps: list[str] = []
        self.calls: list[dict[str, Any]] = []
        self.closed_at: list[float] = []
        self.tries: dict[str, int] = {}
        self.lock = threading.Lock()
        self._server = _Server(self, port)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, name="fake-anthropic", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
        assert not self.unknown_steps, self.unknown_steps


def main() -> None:
    """Runs the server until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9100)
    with FakeAnthropic(parser.parse_args().port) as server:
        print(
            f"ANTHROPIC_API_KEY=fake LASTWORD_SERVICE_PROVIDER=anthropic LASTWORD_SERVICE_ANTHROPIC_BASE_URL={server.url} make up"
        )
        threading.Event().wait()


if __name__ == "__main__":
    main()
