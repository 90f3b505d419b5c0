"""What happens in a turn: attempts, tools, text, and the one terminal. Each rule is a method of its own, to be overridden."""

import asyncio
import json
import re
import time
from typing import Any
from urllib.parse import urlsplit

from tests.conformance.reference.export import Exporter
from tests.conformance.reference.model import Call, fault_of
from tests.conformance.reference.settings import Settings
from tests.conformance.reference.turn import Fault, Span, Turn, no_usage

_STOPS = {
    "end_turn": "success",
    "stop_sequence": "success",
    "max_tokens": "truncated",
    "model_context_window_exceeded": "truncated",
}
_MAX_CALLS = 8
_REASON_OF_STOP = {
    "cancel": ("cancelled", "client_cancelled"),
    "left": ("cancelled", "client_disconnected"),
    "deadline": ("interrupted", "deadline"),
    "shutdown": ("interrupted", "server_shutdown"),
}
TOOLS = [
    {"name": name, "description": name, "input_schema": {"type": "object"}}
    for name in ("search_knowledge", "conformance_probe")
]


class Runner:
    """Runs turns. Mixed into the server."""

    settings: Settings
    exporter: Exporter

    # --- the log

    def encode(self, fields: dict[str, Any]) -> str:
        return json.dumps(fields, separators=(",", ":"))

    def frame(self, turn: Turn, kind: str, fields: dict[str, Any]) -> bytes:
        seq = turn.seq + 1
        data = self.encode({"type": kind, "turnId": turn.id, "seq": seq, "tMs": turn.now() // 1_000_000, **fields})
        return f"event: {kind}\nid: {turn.id}.{seq}\ndata: {data}\n\n".encode()

    def append(self, turn: Turn, kind: str, fields: dict[str, Any]) -> None:
        frame = self.frame(turn, kind, fields)
        turn.frames.append(frame)
        self.journal(turn, frame)
        if kind in {"done", "error"}:
            turn.terminal = json.loads(frame.split(b"data: ", 1)[1].split(b"\ndata: ")[0])
            turn.ended_at = time.monotonic()
        turn.wake()

    def journal(self, turn: Turn, frame: bytes) -> None:
        """Keeps a frame for the next process."""
        if self.settings.work is not None:
            record = {"turn": turn.id, "caller": turn.caller, "conversation": turn.conversation, "frame": frame.decode()}
            with (self.settings.work / "journal.jsonl").open("a") as file:
                file.write(json.dumps(record) + "\n")

    # --- the way of a turn

    async def run(self, turn: Turn) -> None:
        """From `ack` to the terminal; whatever happens, there is one."""
        try:
            await self.before_ack(turn)
            self.acknowledge(turn)
            await self.answer(turn)
        except asyncio.CancelledError:
            self.stopped(turn)
        except Fault as fault:
            self.failed(turn, fault)
        except Exception as error:  # noqa: BLE001 - whatever happens, a turn has a terminal
            self.unexpected(turn, error)
        self.exporter.turn_ended(self, turn)

    async def before_ack(self, turn: Turn) -> None:
        at = turn.now()
        for stage in ("authMs", "precheckMs", "conversationContextMs", "routeMs"):
            turn.stages[stage], at = (at, turn.now()), turn.now()

    def acknowledge(self, turn: Turn) -> None:
        self.arm_deadline(turn)
        self.append(turn, "ack", self.ack_fields(turn))

    def ack_fields(self, turn: Turn) -> dict[str, Any]:
        return {
            "contract": "turn/1.0",
            "traceId": turn.trace_id,
            "route": turn.route,
            "modelTier": turn.tier,
            "conversationId": turn.conversation,
            "deadlineMs": round(turn.deadline_s * 1000),
            "heartbeatMs": round(self.settings.heartbeat_s * 1000),
            "onDisconnect": turn.on_disconnect,
            "resumeUrl": f"/v1/turns/{turn.id}/events",
        }

    def arm_deadline(self, turn: Turn) -> None:
        left = turn.deadline_s - turn.now() / 1e9
        asyncio.get_running_loop().call_later(max(0.0, left), turn.stop, "deadline")

    async def answer(self, turn: Turn) -> None:
        """Tries until a try ends well, is visible, or nothing is left to try."""
        at = turn.now()
        turn.stages["agentSetupMs"] = (at, turn.now())
        fault = Fault("provider_error", "untried")
        for rank, (tier, model) in enumerate(self.settings.tiers):
            turn.tier, turn.model = tier, model
            for number in range(self.settings.attempts):
                try:
                    status, stop = await self.attempt(turn, rank > 0)
                except Fault as error:
                    fault = error
                else:
                    self.finish(turn, status, stop, None)
                    return
                if not self.may_retry(turn, fault):
                    raise fault
                pause = self.backoff(fault, number)
                if not self.affordable(turn, pause):
                    raise fault
                await asyncio.sleep(pause)
        raise fault

    def may_retry(self, turn: Turn, fault: Fault) -> bool:
        return fault.retry and not turn.texts

    def backoff(self, fault: Fault, number: int) -> float:
        return max(0.01 * (number + 1), fault.retry_after)

    def affordable(self, turn: Turn, pause: float) -> bool:
        return pause < turn.deadline_s - turn.now() / 1e9

    async def attempt(self, turn: Turn, degraded: bool) -> tuple[str, str | None]:
        """One try: provider calls, and tools between them. The status it came to, and the provider's word for its end."""
        note: dict[str, Any] = {
            "n": len(turn.attempts) + 1,
            "model": turn.model,
            "modelTier": turn.tier,
            "outcome": "ok",
            "errorType": None,
            "visible": False,
            "providerRequestId": None,
            "usage": no_usage(),
            "durationMs": 0,
        }
        turn.attempts.append(note)
        begun = turn.now()
        turn.stages.setdefault("modelWaitMs", (begun, begun))
        span = Span("turn.attempt", turn.wall + begun, turn.wall + begun)
        turn.spans.append(span)
        try:
            status, stop = await self.converse(turn, note, span)
            if status == "success" and not turn.texts:
                raise Fault("provider_error", "empty_answer")
        except Fault as fault:
            note["outcome"], note["errorType"] = fault.reason, self.error_type(fault)
            raise
        else:
            return ("degraded" if status == "success" and degraded else status), stop
        finally:
            note["visible"], note["durationMs"] = bool(turn.texts), (turn.now() - begun) // 1_000_000
            span.end = turn.wall + turn.now()

    def error_type(self, fault: Fault) -> str:
        return fault.kind

    async def converse(self, turn: Turn, note: dict[str, Any], span: Span) -> tuple[str, str | None]:
        messages: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "text", "text": turn.request["message"]}]}]
        for _ in range(_MAX_CALLS):
            stop, blocks = await self.call(turn, note, messages, span)
            messages.append({"role": "assistant", "content": blocks})
            if stop == "tool_use":
                uses = [block for block in blocks if block["type"] == "tool_use"]
                messages.append({"role": "user", "content": [await self.use_tool(turn, use) for use in uses]})
            elif stop != "pause_turn" or not self.resumes_pauses():
                self.show(turn, "", last=True)
                return self.status_of(stop), stop
        return "truncated", "pause_turn"

    def resumes_pauses(self) -> bool:
        return True

    def status_of(self, stop: str | None) -> str:
        """The status that a stop reason stands for."""
        if stop == "refusal":
            return "refused"
        if stop not in _STOPS:
            raise Fault("provider_truncated", f"stop_{stop}")
        return _STOPS[stop]

    async def call(
        self, turn: Turn, note: dict[str, Any], messages: list[dict[str, Any]], span: Span
    ) -> tuple[str | None, list[dict[str, Any]]]:
        """One provider call, watched. Its stop reason and its blocks."""
        body = {"model": turn.model, "max_tokens": 1000, "stream": True, "messages": messages, "tools": TOOLS}
        call, blocks, stop = Call(self.settings.provider, body), [], None
        usage, ended = no_usage() | {"complete": False}, False
        chat = Span(f"chat {turn.model}", turn.wall + turn.now(), 0, {"gen_ai.operation.name": "chat"}, parent=span.id)
        events = call.events()
        try:
            async for event in self.watched(turn, events):
                match self.kind_of(event):
                    case "message_start":
                        self.count_usage(usage, event["message"]["usage"])
                    case "content_block_start":
                        blocks.append(dict(event["content_block"], partial=[]))
                        self.find_sources(turn, blocks[-1])
                    case "content_block_delta":
                        self.take_delta(turn, blocks[event["index"]], event["delta"])
                    case "message_delta":
                        stop = event["delta"]["stop_reason"]
                        self.count_usage(usage, event["usage"])
                    case "message_stop":
                        ended = usage["complete"] = True
                    case "error":
                        raise fault_of(event)
            if not ended:
                stop = self.cut_off(turn)
        except (KeyError, IndexError, ValueError) as error:
            raise self.unreadable(error) from error
        finally:
            await self.hang_up(call, events)
            self.add_usage(note, usage)
            chat.end = turn.wall + turn.now()
            chat.attributes |= {
                "gen_ai.usage.input_tokens": usage["inputTokens"],
                "gen_ai.usage.output_tokens": usage["outputTokens"],
            }
            turn.spans.append(chat)
        return stop, [self.whole_block(block) for block in blocks]

    async def hang_up(self, call: Call, events: Any) -> None:
        call.close()
        await events.aclose()

    def kind_of(self, event: dict[str, Any]) -> str:
        return str(event["type"])

    def unreadable(self, error: Exception) -> Fault:
        return Fault("provider_error", type(error).__name__)

    def cut_off(self, turn: Turn) -> str | None:
        """The response ended without its last message."""
        raise Fault("provider_truncated", "no_message_stop")

    async def watched(self, turn: Turn, events: Any) -> Any:
        """The events, as long as content keeps coming."""
        last = time.monotonic()
        while True:
            limit, reason = self.patience(turn)
            try:
                event = await asyncio.wait_for(anext(events), max(0.001, last + limit - time.monotonic()))
            except TimeoutError:
                raise Fault(reason, reason) from None
            except StopAsyncIteration:
                return
            if turn.stopped:  # Python 3.11's wait_for forgets a cancellation that comes together with the event
                raise asyncio.CancelledError(turn.stopped)
            if self.is_content(event):
                last = time.monotonic()
            yield event

    def patience(self, turn: Turn) -> tuple[float, str]:
        if turn.texts:
            return self.settings.stall_s, "stall_timeout"
        return self.settings.first_token_s, "first_token_timeout"

    def is_content(self, event: dict[str, Any]) -> bool:
        return event.get("type") == "content_block_delta"

    def count_usage(self, usage: dict[str, Any], told: dict[str, Any]) -> None:
        names = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
        ours = ("inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens")
        for name, own in zip(names, ours, strict=True):
            usage[own] = told.get(name, usage[own])

    def add_usage(self, note: dict[str, Any], usage: dict[str, Any]) -> None:
        for name, value in usage.items():
            note["usage"][name] = note["usage"][name] and value if name == "complete" else note["usage"][name] + value

    def whole_block(self, block: dict[str, Any]) -> dict[str, Any]:
        partial = "".join(block.pop("partial"))
        if block["type"] == "tool_use":
            block["input"] = json.loads(partial or "{}")
        if block["type"] == "text":
            block["text"] = partial
        return block

    # --- content

    def take_delta(self, turn: Turn, block: dict[str, Any], delta: dict[str, Any]) -> None:
        match delta["type"]:
            case "text_delta":
                block["partial"].append(delta["text"])
                self.show(turn, delta["text"])
            case "input_json_delta":
                block["partial"].append(delta["partial_json"])
            case "citations_delta":
                citation = delta["citation"]
                self.add_source(turn, citation["source"], citation.get("title"), "payload")

    def find_sources(self, turn: Turn, block: dict[str, Any]) -> None:
        if block["type"] == "web_search_tool_result":
            for result in block["content"]:
                self.add_source(turn, result["url"], result.get("title"), "payload")

    def add_source(self, turn: Turn, url: str, title: str | None, origin: str) -> None:
        url = self.normal_url(url)
        known = turn.sources.setdefault(url, {"url": url, "title": title, "publisher": None, "origins": [], "score": None})
        if origin not in known["origins"]:
            known["origins"].append(origin)

    def normal_url(self, url: str) -> str:
        parts = urlsplit(url)
        port = f":{parts.port}" if parts.port not in {None, 80, 443} else ""
        query = "&".join(pair for pair in parts.query.split("&") if pair and not pair.startswith("utm_"))
        return f"{parts.scheme.lower()}://{(parts.hostname or '').lower()}{port}{parts.path}" + (f"?{query}" if query else "")

    def whole_text(self, turn: Turn, text: str, *, last: bool) -> str:
        """Text that can be written as UTF-8; half a surrogate pair waits for the other."""
        text, turn.held = turn.held + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff" and not last:
            text, turn.held = text[:-1], text[-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")

    def show(self, turn: Turn, text: str, *, last: bool = False) -> None:
        text = self.whole_text(turn, text, last=last)
        if self.worth_showing(text):
            if turn.first_ns is None:
                turn.first_ns = turn.now()
                turn.stages["modelWaitMs"] = (turn.stages["modelWaitMs"][0], turn.first_ns)
            turn.texts.append(text)
            turn.last_ns = turn.now()
            self.append(turn, "chunk", {"text": text})

    def worth_showing(self, text: str) -> bool:
        return bool(text)

    # --- tools

    async def use_tool(self, turn: Turn, use: dict[str, Any]) -> dict[str, Any]:
        begun = turn.now()
        try:
            text, outcome = await asyncio.wait_for(self.run_tool(use), self.settings.tool_s)
        except TimeoutError:
            text, outcome = "too slow", "timeout"
        except LookupError:
            text, outcome = "it failed", "error"
        turn.tool_calls.append({"name": use["name"], "outcome": outcome, "durationMs": (turn.now() - begun) // 1_000_000})
        return {
            "type": "tool_result",
            "tool_use_id": use["id"],
            "content": [{"type": "text", "text": text}],
            "is_error": outcome in {"error", "timeout"},
        }

    async def run_tool(self, use: dict[str, Any]) -> tuple[str, str]:
        if use["name"] == "search_knowledge":
            return "found", "results"
        if use["name"] != "conformance_probe":
            raise LookupError(use["name"])
        match use["input"]["behaviour"]:
            case "hang":
                await asyncio.sleep(60)
            case "error":
                raise LookupError("told to")
            case "empty":
                return "nothing", "empty"
        return "found", "results"

    # --- the end

    def stopped(self, turn: Turn) -> None:
        status, reason = _REASON_OF_STOP[turn.stopped or "shutdown"]
        if turn.attempts and turn.attempts[-1]["outcome"] == "ok":
            turn.attempts[-1]["outcome"] = reason
        if status == "cancelled" or turn.texts:
            self.finish(turn, status, None, reason)
        else:
            self.failed(turn, Fault(reason, reason))

    def failed(self, turn: Turn, fault: Fault) -> None:
        fallback = self.settings.routes.get(turn.route)
        if turn.texts:
            self.after_text(turn, fault)
        elif fallback and fault.reason != "server_shutdown":
            if turn.first_ns is None:
                turn.first_ns = turn.last_ns = turn.now()
            self.fall_back(turn, fallback)
            self.finish(turn, "fallback", None, fault.reason)
        else:
            self.error(turn, fault)

    def fall_back(self, turn: Turn, text: str) -> None:
        turn.texts.append(text)
        self.append(turn, "chunk", {"text": text})
        turn.last_ns = turn.now()

    def after_text(self, turn: Turn, fault: Fault) -> None:
        self.finish(turn, "interrupted", None, fault.reason)

    def unexpected(self, turn: Turn, error: Exception) -> None:
        self.failed(turn, Fault("internal_error", type(error).__name__, retry=False))

    def error(self, turn: Turn, fault: Fault) -> None:
        self.append(turn, "error", self.error_fields(turn, fault))

    def error_fields(self, turn: Turn, fault: Fault) -> dict[str, Any]:
        known = self.metadata(turn, "interrupted", None, fault.reason)
        names = "route modelTier model conversationId reason finishReason toolsUsed toolsWithResults toolCalls usage attempts".split()
        names += "startedAt stageTimings contract service recovered".split()
        return {
            "code": fault.reason,
            "message": "The question could not be answered.",
            "retryable": self.retryable(fault),
            "retryAfterMs": None,
            "metadata": {name: known[name] for name in names},
        }

    def retryable(self, fault: Fault) -> bool:
        return fault.retry

    def finish(self, turn: Turn, status: str, stop: str | None, reason: str | None) -> None:
        reasons = {
            "truncated": "output_limit",
            "refused": "refusal",
            "degraded": turn.attempts[0]["outcome"] if turn.attempts else None,
        }
        if turn.terminal is None:
            self.append(turn, "done", {"metadata": self.metadata(turn, status, stop, reason or reasons.get(status))})

    def canonical(self, turn: Turn) -> str:
        return re.sub(r" ?\[\d+(, ?\d+)*\]", "", "".join(turn.texts)).strip()

    def partial(self, turn: Turn, status: str) -> bool:
        return status in {"truncated", "interrupted"} or (status in {"refused", "cancelled"} and bool(turn.texts))

    def metadata(self, turn: Turn, status: str, stop: str | None, reason: str | None) -> dict[str, Any]:
        """The done record."""
        begun = turn.now()
        answer = self.canonical(turn)
        sources = list(turn.sources.values())
        turn.stages["postProcessMs"], begun = (begun, turn.now()), turn.now()
        turn.stages["finalizeMs"] = (begun, turn.now())
        return {
            "answer": answer,
            "chunkCount": len(turn.texts),
            "streamedSha256": turn.digest(),
            "answerMatchesStream": answer == "".join(turn.texts),
            "sources": [source["url"] for source in sources],
            "sourceDetails": sources,
            "toolsUsed": list(dict.fromkeys(call["name"] for call in turn.tool_calls)),
            "toolsWithResults": self.tools_with_results(turn),
            "toolCalls": turn.tool_calls,
            "route": turn.route,
            "modelTier": turn.tier,
            "model": turn.model,
            "conversationId": turn.conversation,
            "completionStatus": status,
            "partial": self.partial(turn, status),
            "reason": reason,
            "finishReason": stop,
            "usage": turn.usage(),
            "attempts": turn.attempts,
            "degraded": status == "degraded",
            "fallback": status == "fallback",
            "startedAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(turn.wall / 1e9)),
            "stageTimings": self.timings(turn),
            "contract": "turn/1.0",
            "service": {"name": "reference", "version": "1", "instance": "one"},
            "recovered": False,
        }

    def tools_with_results(self, turn: Turn) -> list[str]:
        return list(dict.fromkeys(call["name"] for call in turn.tool_calls if call["outcome"] == "results"))

    def timings(self, turn: Turn) -> dict[str, Any]:
        total = turn.now()
        if "modelWaitMs" in turn.stages and turn.first_ns is None:
            turn.stages["modelWaitMs"] = (turn.stages["modelWaitMs"][0], turn.stages["postProcessMs"][0])
        if turn.first_ns is not None and turn.last_ns is not None:
            turn.stages["streamMs"] = (turn.first_ns, turn.last_ns)
        stages = {name: (end - start) // 1_000_000 for name, (start, end) in turn.stages.items()}
        first = None if turn.first_ns is None else turn.first_ns // 1_000_000
        return stages | {"firstTokenMs": first, "totalMs": total // 1_000_000}
