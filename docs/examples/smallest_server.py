"""The smallest turn server: `python smallest_server.py 8000`. Standard library only.

It echoes the question, and every turn has ended before its first byte is sent. So it can keep what a client sees of the contract, and
nothing of what a model, a tool or a restart can do to a turn.
"""

import hashlib
import json
import re
import secrets
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

MAX_BODY = 100_000
TRACE = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
USAGE = {"inputTokens": 0, "outputTokens": 0, "cacheReadTokens": 0, "cacheWriteTokens": 0, "complete": True}
TURNS: dict[str, list[dict[str, Any]]] = {}  # the events of each turn
KEYS: dict[str, tuple[bytes, str]] = {}  # the body and the turn of each Idempotency-Key


def events_of(turn_id: str, message: str, trace_id: str) -> list[dict[str, Any]]:
    """A whole turn: ack, chunks, done."""
    text = message.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # half a character cannot be UTF-8
    chunks = [text[start : start + 12] for start in range(0, len(text), 12)]
    place = {"route": "echo", "modelTier": "none", "conversationId": f"conv_{turn_id[4:]}"}
    ack = {"contract": "turn/1.0", "traceId": trace_id, **place, "deadlineMs": 1000, "heartbeatMs": 15000}
    ack |= {"onDisconnect": "continue", "resumeUrl": f"/v1/turns/{turn_id}/events"}
    done = {"answer": text, "chunkCount": len(chunks), "streamedSha256": hashlib.sha256(text.encode()).hexdigest()}
    done |= {"answerMatchesStream": True, "sources": [], "sourceDetails": [], **place, "model": None}
    done |= {"toolsUsed": [], "toolsWithResults": [], "toolCalls": [], "usage": USAGE, "attempts": []}
    done |= {"completionStatus": "success", "partial": False, "reason": None, "finishReason": None, "degraded": False}
    done |= {"fallback": False, "startedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "recovered": False}
    done |= {"stageTimings": {"firstTokenMs": 0, "totalMs": 0}, "contract": "turn/1.0"}
    done |= {"service": {"name": "smallest", "version": "1", "instance": "only"}}
    told = [("ack", ack), *(("chunk", {"text": chunk}) for chunk in chunks), ("done", {"metadata": done})]
    return [{"type": kind, "turnId": turn_id, "seq": seq, "tMs": 0, **rest} for seq, (kind, rest) in enumerate(told, 1)]


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """A question, or the wish to stop an answer, which always comes too late here."""
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(min(length, 2 * MAX_BODY))
        parts = urlsplit(self.path).path.strip("/").split("/")
        if len(parts) == 4 and parts[:2] == ["v1", "turns"] and parts[2] in TURNS and parts[3] == "cancel":
            return self.send_json(200, {"terminal": TURNS[parts[2]][-1]})
        if parts != ["v1", "turns"]:
            return self.refuse(404, "There is no such thing.")
        if length > MAX_BODY:
            return self.refuse(413, f"More than {MAX_BODY} bytes.")
        if self.headers.get("Turn-Contract", "turn/1.0") != "turn/1.0":
            return self.refuse(406, "This version is not spoken here.", versions=["turn/1.0"])
        try:
            message = json.loads(body)["message"]
        except (ValueError, TypeError, KeyError):
            return self.refuse(400, "The body is no JSON object with a message.")
        if not isinstance(message, str) or not message:
            return self.refuse(400, "message is no text.")
        turn_id, trace = f"trn_{secrets.token_hex(16)}", TRACE.fullmatch(self.headers.get("traceparent", ""))
        TURNS[turn_id] = events_of(turn_id, message, trace[1] if trace else secrets.token_hex(16))
        known, first = KEYS.setdefault(
            self.headers.get("Idempotency-Key") or turn_id, (body, turn_id)
        )  # the turn is there first
        if first != turn_id:
            del TURNS[turn_id]
        if known != body:
            return self.refuse(422, "This Idempotency-Key belongs to another question.")
        return self.stream(first, 0, {} if first == turn_id else {"Idempotency-Replayed": "true"})

    def do_GET(self) -> None:
        """Health, the facts, a turn, or its events behind a cursor."""
        url = urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        if url.path in {"/health/live", "/health/ready"}:
            return self.send_json(200, {"status": "ok"})
        if url.path == "/.well-known/turn-contract":
            return self.send_json(200, {"versions": ["turn/1.0"], "limits": {"maxBodyBytes": MAX_BODY}, "heartbeatMs": 15000})
        if (
            len(parts) not in {3, 4}
            or parts[:2] != ["v1", "turns"]
            or parts[2] not in TURNS
            or parts[3:] not in ([], ["events"])
        ):
            return self.refuse(404, "There is no such turn.")
        turn_id, seq = parts[2], len(TURNS[parts[2]])
        if parts[3:] == []:
            return self.send_json(200, {"turnId": turn_id, "state": "done", "seq": seq, "terminal": TURNS[turn_id][-1]})
        after = parse_qs(url.query).get("after", ["0"])[0]
        cursor = re.fullmatch(rf"{turn_id}\.([0-9]+)", self.headers.get("Last-Event-ID") or f"{turn_id}.{after}")
        if cursor is None:
            return self.refuse(400, "This is no cursor of this turn.")
        if int(cursor[1]) >= seq:
            return self.send_json(204, None) if int(cursor[1]) == seq else self.refuse(409, "The turn has not come that far.")
        return self.stream(turn_id, int(cursor[1]), {})

    def stream(self, turn_id: str, after: int, extra: dict[str, str]) -> None:
        """The events behind a place."""
        headers = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
        headers |= {"Turn-Id": turn_id, "Turn-Contract": "turn/1.0", "Transfer-Encoding": "chunked", **extra}
        self.send_head(200, headers)
        for event in TURNS[turn_id][after:]:
            frame = f"event: {event['type']}\nid: {turn_id}.{event['seq']}\ndata: {json.dumps(event)}\n\n".encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(frame), frame))
        self.wfile.write(b"0\r\n\r\n")

    def refuse(self, status: int, detail: str, **more: object) -> None:
        """A problem document."""
        self.send_json(status, {"type": "about:blank", "title": "Refused", "status": status, "detail": detail, **more})

    def send_json(self, status: int, value: dict[str, Any] | None) -> None:
        """A whole response; 204 has no body."""
        kind = "application/problem+json" if status >= 400 else "application/json"
        body = b"" if value is None else json.dumps(value).encode()
        self.send_head(status, {"Content-Type": kind, "Content-Length": str(len(body))} if body else {})
        self.wfile.write(body)

    def send_head(self, status: int, headers: dict[str, str]) -> None:
        """Status and headers."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


if __name__ == "__main__":
    ThreadingHTTPServer.request_queue_size = 64
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
