"""A fake model provider: a local server that speaks the Messages streaming protocol, scripted by the prompt.

A question that holds `[[script: text, cut]]` is answered by those steps, in order, so the server under test needs no test mode. Later calls
take the next script behind a `|`: `[[script: tool | text, end]]` asks for a tool, and answers when its result comes; the same transcript
sent again is a retry, and takes the next one too. Behind a `^` stands what another model than the first one is to do. A mark such as `#q17`
behind the script tells the calls of one scenario from others'.

Steps: every `step_NAME` of `steps.py`, `NAME=ARGUMENT` where it takes one, and any HTTP status (`429=7` and `429=date` with retry-after). Owns the sockets
and the count of calls; every call ends within `HANG_S`, and a close of the other side is noticed at once.
"""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from msgspec import Struct, field

from lastword.check.steps import Cut, Steps

_SCRIPT = re.compile(r"\[\[script:([^\]]*)\]\](?: #(\w+))?")


class Call(Struct, kw_only=True):
    """One request that the provider got. Times are monotonic seconds; `left_at` is when the other side was seen to close before we had ended."""

    body: dict[str, Any]
    headers: dict[str, str]
    mark: str
    at: float
    sent: list[float] = field(default_factory=list)
    left_at: float | None = None
    ended_at: float | None = None

    @property
    def model(self) -> str:
        """The model that was asked for."""
        return str(self.body.get("model"))

    @property
    def tool_names(self) -> list[str]:
        """The tools that the request offers."""
        return [str(tool.get("name")) for tool in self.body.get("tools") or []]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *args: object) -> None:
        """Silence."""

    def do_POST(self) -> None:
        """Answers one call by its script."""
        owner = self.server.owner
        self.close_connection = True
        body = self._read_body()
        if body is None:
            return
        script, mark = script_of(body, owner)
        call = Call(body=body, headers={k.lower(): v for k, v in self.headers.items()}, mark=mark, at=time.monotonic())
        owner.note(call)
        steps = Steps(self, call, owner.ending)
        try:
            for step in script:
                if not steps.take(step):
                    owner.unknown_steps.append(step)
                    break
        except Cut:
            pass
        except OSError:
            call.left_at = call.left_at or time.monotonic()  # the client has gone: that is what many cases are about
        finally:
            call.ended_at = time.monotonic()

    def _read_body(self) -> dict[str, Any] | None:
        try:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))))
        except ValueError:
            body = None
        if isinstance(body, dict) and isinstance(body.get("messages"), list):
            return body
        self.send_error(400, "not a Messages request")
        return None


def script_of(body: dict[str, Any], owner: FakeProvider) -> tuple[list[str], str]:
    """The steps of this call and the mark of its scenario, from the newest message that holds a script."""
    messages = body["messages"]
    found: re.Match[str] | None = None
    place = 0
    for index, message in enumerate(messages):
        *_, found_here = [None, *_SCRIPT.finditer(json.dumps(message))]
        if found_here is not None:
            found, place = found_here, index
    mark = (found[2] or "") if found else ""
    by_model = (found[1] if found else "text, end").split("^")
    rank = owner.rank_of(mark or (found[0] if found else ""), str(body.get("model"))) if len(by_model) > 1 else 0
    scripts = [part.strip() for part in by_model[min(rank, len(by_model) - 1)].split("|")]
    rounds = sum(1 for message in messages[place:] if message.get("role") == "assistant")
    if len(scripts) > 1 and rounds == 0:
        rounds = owner.tries_of(json.dumps(messages) + f"^{rank}")  # the same transcript again: a retry
    chosen = scripts[min(rounds, len(scripts) - 1)]
    return [step.strip() for step in chosen.split(",") if step.strip()], mark


class _Server(ThreadingHTTPServer):
    """One thread a connection; a TLS handshake is made in that thread, so that a silent client holds up nobody."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, owner: FakeProvider, port: int) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", port), _Handler)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Handles one connection."""
        context = self.owner.tls
        if context is not None:
            request.settimeout(30)
            request = context.wrap_socket(request, server_side=True)
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            super().finish_request(request, client_address)
        finally:
            if context is not None:
                request.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error here."""


class FakeProvider:
    """The server, as a context manager. `calls` holds every request, in the order in which they came."""

    def __init__(self, port: int = 0, *, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.ending = threading.Event()
        self.unknown_steps: list[str] = []
        self.calls: list[Call] = []
        self._tries: dict[str, int] = {}
        self._models: dict[str, list[str]] = {}
        self._seen = False
        self._lock = threading.Lock()
        self._server = _Server(self, port)
        self.port = int(self._server.server_address[1])
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="fake-provider", daemon=True)

    def note(self, call: Call) -> None:
        """Counts a call."""
        with self._lock:
            self.calls.append(call)
            self._seen = True

    def tries_of(self, transcript: str) -> int:
        """How often this transcript was sent before; counts it once more."""
        with self._lock:
            tries = self._tries.get(transcript, 0)
            self._tries[transcript] = tries + 1
            return tries

    def rank_of(self, scenario: str, model: str) -> int:
        """0 for the first model that a scenario's calls asked for, 1 for the second, and so on."""
        with self._lock:
            models = self._models.setdefault(scenario, [])
            if model not in models:
                models.append(model)
            return models.index(model)

    def calls_of(self, mark: str) -> list[Call]:
        """The calls of one scenario."""
        with self._lock:
            return [call for call in self.calls if call.mark == mark]

    @property
    def seen(self) -> bool:
        """Whether anybody ever called."""
        return self._seen

    def forget(self) -> None:
        """Drops what was counted: a long run of cases keeps no memory of the cases before."""
        with self._lock:
            self.calls.clear()
            self._tries.clear()
            self._models.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
