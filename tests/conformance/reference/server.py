"""The HTTP side: requests in, streams out, over bare asyncio streams. Each rule is a method of its own, to be overridden."""

import asyncio
import hashlib
import json
import re
import secrets
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.conformance.reference.export import Exporter, Observed
from tests.conformance.reference.http import Gone, Reject, Request, read_request, respond
from tests.conformance.reference.runner import Runner
from tests.conformance.reference.settings import Settings
from tests.conformance.reference.turn import Fault, Turn

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
    "Turn-Contract": "turn/1.0",
}


class Reference(Runner, Observed):
    """The server. `start` listens, `drain` ends every turn, `close` stops listening."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.exporter = Exporter(settings.otlp)
        self.turns: dict[str, Turn] = {}
        self.claims: dict[tuple[str, str], Turn] = {}
        self.asked: dict[str, list[float]] = {}
        self.draining = False
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        """Listens; the port."""
        self.recover()
        self._server = await asyncio.start_server(self.connection, "127.0.0.1", self.settings.port, backlog=512)
        return int(self._server.sockets[0].getsockname()[1])

    def on_term(self, stopping: asyncio.Event) -> None:
        """SIGTERM has come."""
        stopping.set()

    async def drain(self) -> None:
        self.draining = True
        for turn in self.active():
            turn.stop("shutdown")
        tasks = [turn.task for turn in self.turns.values() if turn.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=3)
        await asyncio.sleep(0.1)  # the viewers' last bytes
        await self.exporter.flush()

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for turn in self.turns.values():
            if turn.task is not None:
                turn.task.cancel()

    def active(self) -> list[Turn]:
        return [turn for turn in self.turns.values() if turn.terminal is None]

    # --- a connection is one request

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=65_536)
        try:
            request = await read_request(reader, self.settings.max_body)
            try:
                await self.handle(request, reader, writer)
            except Reject as reject:
                await respond(writer, reject.status, *self.problem(reject))
        except (Gone, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the connection is over, whoever ended it
        finally:
            with suppress(OSError):
                writer.close()

    def problem(self, reject: Reject) -> tuple[dict[str, str], bytes]:
        body = {"type": "about:blank", "title": "Refused", "status": reject.status, "detail": reject.detail, **reject.extra}
        return {"Content-Type": "application/problem+json", **reject.headers}, json.dumps(body).encode()

    async def handle(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parts = urlsplit(request.target)
        match request.method, parts.path.strip("/").split("/"):
            case "GET", ["health", "live" | "ready"]:
                await self.health(writer)
            case "GET", ["metrics"]:
                await respond(writer, 200, {"Content-Type": "text/plain"}, self.metrics())
            case "GET", [".well-known", "turn-contract"]:
                await respond(writer, 200, {"Content-Type": "application/json"}, json.dumps(self.facts()).encode())
            case "POST", ["v1", "turns"]:
                await self.post(request, reader, writer)
            case "GET", ["v1", "turns", ident]:
                await self.snapshot(writer, self.owned(request, ident), 200)
            case "GET", ["v1", "turns", ident, "events"]:
                turn = self.owned(request, ident)
                await self.events(turn, request, parse_qs(parts.query), reader, writer)
            case "POST", ["v1", "turns", ident, "cancel"]:
                await self.cancel(self.owned(request, ident), writer)
            case "GET", ["v1", "conversations", ident]:
                self.own_conversation(request, ident)
                await respond(writer, 200, {"Content-Type": "application/json"}, b'{"messages": []}')
            case _:
                raise Reject(404, "There is no such thing.")

    async def health(self, writer: asyncio.StreamWriter) -> None:
        await respond(writer, 200, {"Content-Type": "application/json"}, b'{"status": "ok"}')

    def metrics(self) -> bytes:
        threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
        return f"process_threads {threads}\nprocess_open_fds {descriptors}\n".encode()

    def facts(self) -> dict[str, Any]:
        known = self.settings
        return {
            "versions": ["turn/1.0"],
            "routes": list(known.routes),
            "limits": {"maxTurns": known.max_turns, "maxBodyBytes": known.max_body, "maxLogBytes": 8_000_000},
            "heartbeatMs": round(known.heartbeat_s * 1000),
            "disconnectGraceMs": round(known.grace_s * 1000),
            "sendTimeoutMs": round(known.send_timeout_s * 1000),
            "retention": {"logMs": round(known.retention_s * 1000)},
            "drainMs": 1500,
        }

    # --- who asks

    def caller(self, request: Request) -> str:
        key = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if self.settings.keys and key not in self.settings.keys:
            raise Reject(401, "A key is needed.", {"WWW-Authenticate": "Bearer"})
        return key

    def owned(self, request: Request, ident: str) -> Turn:
        turn = self.turns.get(ident)
        if turn is None or not self.may_see(turn, self.caller(request)):
            raise Reject(404, "There is no such turn.")
        return turn

    def may_see(self, turn: Turn, caller: str) -> bool:
        return turn.caller == caller

    def own_conversation(self, request: Request, ident: str) -> None:
        caller = self.caller(request)
        if not any(turn.conversation == ident and self.may_see(turn, caller) for turn in self.turns.values()):
            raise Reject(404, "There is no such conversation.")

    # --- a question

    async def post(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = self.caller(request)
        self.check_version(request)
        body = self.question(request)
        payload = hashlib.sha256(request.body).hexdigest()
        key = request.headers.get("idempotency-key")
        found = await self.claimed(caller, key, payload) if key else None
        if found is not None:
            await self.deliver(found, 0, reader, writer, {"Idempotency-Replayed": "true"})
            return
        self.check_rate(caller)
        self.check_capacity()
        turn = self.begin(Turn(caller, body, payload), request)
        if key:
            self.claim(caller, key, turn)
        turn.task = asyncio.create_task(self.run(turn))
        while not turn.frames:
            await turn.changed(1.0)
        await self.deliver(turn, 0, reader, writer, {})

    def check_version(self, request: Request) -> None:
        wanted = request.headers.get("turn-contract")
        if wanted is not None and "turn/1.0" not in [one.strip() for one in wanted.split(",")]:
            raise Reject(406, "This version is not spoken here.", extra={"versions": ["turn/1.0"]})

    def question(self, request: Request) -> dict[str, Any]:
        if request.too_large:
            raise Reject(413, "The body is too large.")
        try:
            body = json.loads(request.body)
        except ValueError:
            raise Reject(400, "The body is no JSON.") from None
        if not isinstance(body, dict) or not isinstance(body.get("message"), str) or not body["message"]:
            raise Reject(400, "message is missing, or no text.")
        return body

    async def claimed(self, caller: str, key: str, payload: str) -> Turn | None:
        turn = self.claims.get((caller, key))
        if turn is not None and not self.same_payload(turn, payload):
            raise Reject(422, "This key was used with another payload.")
        return turn

    def same_payload(self, turn: Turn, payload: str) -> bool:
        return turn.payload == payload

    def claim(self, caller: str, key: str, turn: Turn) -> None:
        self.claims[caller, key] = turn

    def check_rate(self, caller: str) -> None:
        limit = self.settings.limited.get(caller)
        recent = [at for at in self.asked.get(caller, []) if at > time.monotonic() - 60]
        self.asked[caller] = [*recent, time.monotonic()]
        if limit is not None and len(recent) >= limit:
            raise Reject(429, "Too many turns a minute.", {"Retry-After": "60"})

    def check_capacity(self) -> None:
        if len(self.active()) >= self.settings.max_turns or self.draining:
            raise Reject(503, "All places are taken.", {"Retry-After": "1"})

    def begin(self, turn: Turn, request: Request) -> Turn:
        body = turn.request
        turn.route = body["route"] if body.get("route") in self.settings.routes else next(iter(self.settings.routes))
        turn.tier = self.settings.tiers[0][0]
        turn.conversation = body.get("conversationId") or f"conv_{secrets.token_hex(8)}"
        turn.on_disconnect = body.get("onDisconnect", "continue")
        wish = body.get("deadlineMs")
        turn.deadline_s = min(self.settings.deadline_s, wish / 1000) if wish else self.settings.deadline_s
        self.continue_trace(turn, request.headers.get("traceparent", ""))
        self.turns[turn.id] = turn
        return turn

    def continue_trace(self, turn: Turn, traceparent: str) -> None:
        match = _TRACEPARENT.fullmatch(traceparent)
        if match and match[1].strip("0") and match[2].strip("0"):
            turn.trace_id, turn.parent_span = match[1], match[2]

    # --- following

    async def events(
        self,
        turn: Turn,
        request: Request,
        query: dict[str, list[str]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        after = self.cursor(turn, request.headers.get("last-event-id") or query.get("after", [""])[0])
        if self.expired(turn):
            raise Reject(410, "The events are no longer kept.")
        if after > turn.seq:
            raise Reject(409, "The turn has not come that far.")
        if turn.terminal is not None and after == turn.seq and self.says_no_content():
            await respond(writer, 204, {}, b"")
            return
        await self.deliver(turn, self.place(after), reader, writer, {})

    def says_no_content(self) -> bool:
        return True

    def place(self, after: int) -> int:
        """How many events a cursor leaves out."""
        return after

    def expired(self, turn: Turn) -> bool:
        return turn.terminal is not None and time.monotonic() - turn.ended_at > self.settings.retention_s

    def cursor(self, turn: Turn, text: str) -> int:
        if not text:
            return 0
        if text.isdigit():
            return int(text)
        ident, dot, seq = text.rpartition(".")
        if not dot or not seq.isdigit():
            raise Reject(400, "This is no cursor.")
        if ident != turn.id:
            raise Reject(400, "The cursor belongs to another turn.")
        return int(seq)

    def head(self, turn: Turn) -> tuple[int, dict[str, str]]:
        return 200, {**HEADERS, "Turn-Id": turn.id}

    async def deliver(
        self, turn: Turn, place: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, extra: dict[str, str]
    ) -> None:
        """Sends the log from a place on, then what comes, to the terminal."""
        turn.viewers += 1
        leaving = asyncio.create_task(self.watch_for_leaving(reader))
        sending = asyncio.create_task(self.send_all(turn, place, writer, extra))
        try:
            await asyncio.wait({leaving, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (leaving, sending):
                task.cancel()
            with suppress(Gone, OSError, asyncio.CancelledError):
                await sending
            turn.viewers -= 1
            self.viewer_left(turn)

    async def watch_for_leaving(self, reader: asyncio.StreamReader) -> None:
        with suppress(OSError):
            while await reader.read(1024):
                pass

    async def send_all(self, turn: Turn, place: int, writer: asyncio.StreamWriter, extra: dict[str, str]) -> None:
        status, headers = self.head(turn)
        lines = "".join(f"{name}: {value}\r\n" for name, value in {**headers, **extra}.items())
        start = f"HTTP/1.1 {status} OK\r\n{lines}Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        writer.write(start.encode())
        while True:
            frames = self.frames(turn)[place:]
            for frame in frames:
                await self.send(writer, frame)
            place += len(frames)
            if turn.terminal is not None and place >= len(self.frames(turn)):
                break
            if not frames and not await turn.changed(self.settings.heartbeat_s):
                await self.heartbeat(turn, writer)
        await self.end_stream(turn, writer)

    def frames(self, turn: Turn) -> list[bytes]:
        return turn.frames

    async def heartbeat(self, turn: Turn, writer: asyncio.StreamWriter) -> None:
        await self.send(writer, b": hb\n\n")

    async def send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """One chunk of the response; a viewer that does not take it in time is dropped."""
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        try:
            await asyncio.wait_for(writer.drain(), self.settings.send_timeout_s)
        except TimeoutError:
            writer.transport.abort()
            raise Gone from None

    async def end_stream(self, turn: Turn, writer: asyncio.StreamWriter) -> None:
        writer.write(b"0\r\n\r\n")
        await asyncio.wait_for(writer.drain(), self.settings.send_timeout_s)

    def viewer_left(self, turn: Turn) -> None:
        if turn.viewers or turn.terminal is not None:
            return
        if turn.on_disconnect == "cancel":
            self.abandoned(turn)
        else:
            asyncio.get_running_loop().call_later(self.settings.grace_s, self.grace_over, turn)

    def abandoned(self, turn: Turn) -> None:
        turn.stop("left")

    def grace_over(self, turn: Turn) -> None:
        if not turn.viewers:
            turn.stop("left")

    # --- looking and stopping

    async def snapshot(self, writer: asyncio.StreamWriter, turn: Turn, status: int) -> None:
        state = turn.terminal["type"] if turn.terminal else "running"
        body = {"turnId": turn.id, "state": state, "lastSeq": turn.seq, "terminal": turn.terminal}
        await respond(writer, status, {"Content-Type": "application/json"}, json.dumps(body).encode())

    async def cancel(self, turn: Turn, writer: asyncio.StreamWriter) -> None:
        status = 202 if turn.terminal is None else 200
        turn.stop("cancel")
        await self.snapshot(writer, turn, status)

    # --- the next process

    def recover(self) -> None:
        """Reads the journal of the process before, and closes what it left open."""
        path = self.settings.work / "journal.jsonl" if self.settings.work else None
        for turn in read_journal(path) if path is not None and path.exists() else []:
            self.turns[turn.id] = turn
            if turn.terminal is None:
                self.close_recovered(turn)

    def close_recovered(self, turn: Turn) -> None:
        fields: dict[str, Any]
        if turn.texts:
            kind, fields = "done", {"metadata": self.metadata(turn, "interrupted", None, "server_crash")}
        else:
            kind, fields = "error", self.error_fields(turn, Fault("server_crash", "server_crash"))
        fields["metadata"]["recovered"] = True
        self.append(turn, kind, fields)


def read_journal(path: Path) -> list[Turn]:
    """The turns of a journal, as far as they came."""
    turns: dict[str, Turn] = {}
    for line in path.read_text().splitlines():
        record = json.loads(line)
        turn = turns.setdefault(
            record["turn"], Turn(record["caller"], {}, id=record["turn"], conversation=record["conversation"])
        )
        frame = record["frame"].encode()
        turn.frames.append(frame)
        event = json.loads(frame.split(b"data: ", 1)[1])
        match event["type"]:
            case "ack":
                turn.trace_id, turn.route, turn.tier = event["traceId"], event["route"], event["modelTier"]
            case "chunk":
                turn.texts.append(event["text"])
                turn.first_ns = turn.last_ns = 0
            case _:
                turn.terminal, turn.ended_at = event, time.monotonic()
    return list(turns.values())
