"""One realistic turn as values, drawn along the machine: stages, attempts, tools, sources, and how it ends.

Spans and records are made from the same clock readings, as the service makes them, so that a page which compares them finds them equal.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.synthetic.world import MODELS, MS, PAGES, ROUTES, SERVICE, Node, SyntheticTurn
from lastword import names
from lastword.events import (
    Attempt,
    CompletionStatus,
    DoneMetadata,
    ErrorMetadata,
    Origin,
    Reason,
    SourceDetail,
    Timings,
    ToolCall,
    ToolOutcome,
    TurnAccepted,
    TurnDone,
    Usage,
    partial_for,
)
from lastword.states import Stage


class Maker:
    """Makes one turn along the machine, with one clock that only moves forward."""

    def __init__(self, rng: random.Random, started_at: datetime, conversation: str, *, incident: bool) -> None:
        self.rng = rng
        self.started_at = started_at
        self.start_ns = round(started_at.timestamp() * 1000) * MS
        self.conversation = conversation
        self.incident = incident
        self.at = 0
        self.stages: dict[Stage, int] = {}
        self.root = Node(names.SPAN_TURN, 0, 0, kind=Span.SPAN_KIND_SERVER)
        self.route = rng.choices(ROUTES, [route.weight for route in ROUTES])[0]
        self.tier = self.route.tiers[0]
        self.attempts: list[Attempt] = []
        self.calls: list[ToolCall] = []
        self.first_token: int | None = None
        self.reason: Reason | None = None
        self.hits = 0

    def ns(self, median_ms: float, spread: float = 0.35) -> int:
        """A duration around a median, never negative, skewed to the right as real ones are."""
        return max(2_000, round(median_ms * MS * self.rng.lognormvariate(0, spread)))

    def gap(self) -> None:
        """Time between two stages that belongs to none."""
        self.at += self.ns(0.12)

    def stage(self, name: str, stage: Stage, took: int, **attributes: Any) -> Node:
        """A stage that is one span."""
        node = Node(name, self.at, self.at + took, dict(attributes))
        self.root.children.append(node)
        self.stages[stage] = took
        self.at += took
        return node

    def make(self) -> SyntheticTurn:
        """The turn."""
        rng = self.rng
        self.stage(names.SPAN_AUTH, Stage.AUTH, self.ns(3.2))
        self.stage(names.SPAN_PRECHECK, Stage.PRECHECK, self.ns(6))
        self.stage(names.SPAN_CONTEXT, Stage.CONTEXT, self.ns(18, 0.5))
        self.stage(names.SPAN_ROUTE, Stage.ROUTE, self.ns(1.6))
        self.gap()
        if self.route.retrieval:
            self._retrieve()
        self.stage(names.SPAN_AGENT_SETUP, Stage.AGENT_SETUP, self.ns(7))
        if rng.random() < 0.002:
            return self._finished(None)
        status = self._attempts()
        self.gap()
        if status is None:
            self.stage(names.SPAN_FINALIZE, Stage.FINALIZE, self.ns(9))
            return self._finished(self._error())
        self.stage(names.SPAN_POST_PROCESS, Stage.POST_PROCESS, self.ns(8))
        self.stage(names.SPAN_FINALIZE, Stage.FINALIZE, self.ns(12, 0.5))
        return self._finished(self._done(status))

    def _retrieve(self) -> None:
        self.hits = self.rng.choices((0, 1, 2, 3, 4, 5), (4, 3, 6, 12, 20, 55))[0]
        node = self.stage(f"{names.SPAN_RETRIEVAL} knowledge", Stage.RETRIEVAL, self.ns(85, 0.45))
        node.kind = Span.SPAN_KIND_CLIENT
        node.attributes = {
            names.GEN_AI_OPERATION: names.OPERATION_RETRIEVAL,
            names.GEN_AI_DATA_SOURCE_ID: "knowledge",
            names.GEN_AI_RETRIEVAL_TOP_K: 5,
            names.RETRIEVAL_HITS: self.hits,
        }

    def _attempts(self) -> CompletionStatus | None:
        """Runs attempts until one shows text; the status, or none where the turn fails."""
        began = self.at
        hard = self.incident and self.tier == "smart"
        for number in (1, 2, 3):
            failing = self.rng.random() < (0.45 if hard and self.tier == "smart" else 0.015)
            if failing:
                self._failed_attempt(number)
                if number == 3:
                    break
                if number == 2 and len(self.route.tiers) > 1:
                    self.tier = self.route.tiers[1]
                    self.root.events.append((names.EVENT_DEGRADE, self.at, self._because(number)))
                else:
                    self.root.events.append((names.EVENT_RETRY, self.at, self._because(number)))
                self.at += self.ns(220)
                continue
            return self._shown(number, began, hard=hard)
        self.stages[Stage.MODEL_WAIT] = self.at - began
        self.reason = Reason.PROVIDER_OVERLOADED
        if self.rng.random() < 0.4:
            return None
        self.root.events.append((names.EVENT_FALLBACK, self.at, self._because(3)))
        self.first_token = self.at
        self._stream(self.ns(4))
        return CompletionStatus.FALLBACK

    def _because(self, number: int) -> dict[str, Any]:
        return {names.ATTEMPT_NUMBER: number, names.ERROR_TYPE: self.attempts[-1].error_type or "error"}

    def _failed_attempt(self, number: int) -> None:
        reason, error_type = self.rng.choice(
            ((Reason.PROVIDER_OVERLOADED, "overloaded_error"), (Reason.FIRST_TOKEN_TIMEOUT, "first_token_timeout"))
        )
        node = self._attempt_node(number, self.ns(900, 0.5), reason.value, visible=False)
        node.error = error_type
        self._chat(node, node.start, node.end, error=error_type)
        self.root.children.append(node)
        self.at = node.end
        self._note(node, number, reason.value, error_type, visible=False)

    def _shown(self, number: int, began: int, *, hard: bool) -> CompletionStatus:
        """An attempt that shows text, with its tools before it, and how the text ended."""
        node = self._attempt_node(number, 0, "ok", visible=True)
        if self.route.tools and self.rng.random() < 0.62:
            self._tool(node)
        chat_start = self.at
        wait = self.ns({"smart": 640, "fast": 260}[self.tier] * (2.8 if hard else 1), 0.32)
        self.at += wait
        self.first_token = self.at
        self.root.events.append((names.EVENT_FIRST_CHUNK, self.at, {}))
        self.stages[Stage.MODEL_WAIT] = self.at - began
        status, reason = self._ending(hard=hard)
        text = self.ns(self.route.stream_ms, 0.4)
        self._stream(text if reason is None else round(text * self.rng.uniform(0.1, 0.8)), cut=_ours(reason))
        self.reason = reason
        node.end = self.at
        if reason is not None and status is CompletionStatus.INTERRUPTED:
            node.attributes[names.ATTEMPT_OUTCOME] = reason.value
            node.error = reason.value
        self._chat(node, chat_start, node.end, error=node.error, first=wait)
        self.root.children.append(node)
        self._note(node, number, node.attributes[names.ATTEMPT_OUTCOME], node.error, visible=True)
        if status is CompletionStatus.SUCCESS and self.tier != self.route.tiers[0]:
            return CompletionStatus.DEGRADED
        return status

    def _ending(self, *, hard: bool) -> tuple[CompletionStatus, Reason | None]:
        roll = self.rng.random()
        broken = 0.16 if hard else 0.009
        if roll < broken:
            reason = self.rng.choice((Reason.PROVIDER_ERROR, Reason.PROVIDER_TRUNCATED, Reason.STALL_TIMEOUT, Reason.DEADLINE))
            return CompletionStatus.INTERRUPTED, reason
        if roll < broken + 0.006:
            return CompletionStatus.TRUNCATED, Reason.OUTPUT_LIMIT
        if roll < broken + 0.02:
            return CompletionStatus.CANCELLED, self.rng.choice((Reason.CLIENT_CANCELLED, Reason.CLIENT_DISCONNECTED))
        if roll < broken + 0.024:
            return CompletionStatus.REFUSED, Reason.REFUSAL
        return CompletionStatus.SUCCESS, None

    def _stream(self, took: int, *, cut: Reason | None = None) -> None:
        node = self.stage(names.SPAN_STREAM, Stage.STREAM, took)
        node.error = cut.value if cut else None

    def _tool(self, node: Node) -> None:
        name = self.rng.choices(self.route.tools, [6, 2, 1][: len(self.route.tools)])[0]
        weights = {"search_knowledge": (80, 14, 2, 4), "calculate": (93, 0, 7, 0)}.get(name, (100, 0, 0, 0))
        outcome = self.rng.choices(tuple(ToolOutcome), weights)[0]
        took = self.ns(2000 if outcome is ToolOutcome.TIMEOUT else {"search_knowledge": 130}.get(name, 4))
        self._chat(node, self.at, self.at + self.ns(380), finish="tool_use")
        self.at = node.children[-1].end
        tool = Node(f"{names.SPAN_EXECUTE_TOOL} {name}", self.at, self.at + took)
        tool.attributes = {
            names.GEN_AI_OPERATION: names.OPERATION_TOOL,
            names.GEN_AI_TOOL_NAME: name,
            names.TOOL_OUTCOME: outcome.value,
            names.TOOL_HAS_RESULTS: outcome is ToolOutcome.RESULTS,
        }
        tool.error = outcome.value if outcome in {ToolOutcome.ERROR, ToolOutcome.TIMEOUT} else None
        node.children.append(tool)
        self.calls.append(ToolCall(name=name, outcome=outcome, duration_ms=took // MS))
        self.at = tool.end

    def _attempt_node(self, number: int, took: int, outcome: str, *, visible: bool) -> Node:
        attributes = {
            names.ATTEMPT_NUMBER: number,
            names.ATTEMPT_OUTCOME: outcome,
            names.TURN_MODEL_TIER: self.tier,
            names.TURN_VISIBLE: visible,
        }
        return Node(names.SPAN_ATTEMPT, self.at, self.at + took, attributes)

    def _chat(
        self, node: Node, start: int, end: int, *, error: str | None = None, first: int | None = None, finish: str = "end_turn"
    ) -> None:
        attributes: dict[str, Any] = {
            names.GEN_AI_OPERATION: names.OPERATION_CHAT,
            names.GEN_AI_PROVIDER: "anthropic",
            names.GEN_AI_REQUEST_MODEL: MODELS[self.tier],
            names.GEN_AI_FINISH_REASONS: ["error" if error else finish],
        }
        if first is not None:
            attributes[names.GEN_AI_TIME_TO_FIRST_CHUNK] = first / 1e9
        chat = Node(f"{names.SPAN_CHAT} {MODELS[self.tier]}", start, end, attributes, Span.SPAN_KIND_CLIENT, error)
        node.children.append(chat)

    def _note(self, node: Node, number: int, outcome: str, error_type: str | None, *, visible: bool) -> None:
        usage = Usage(input_tokens=self.rng.randint(600, 4200), output_tokens=self.rng.randint(40, 700) if visible else 0)
        self.attempts.append(
            Attempt(
                n=number,
                model=MODELS[self.tier],
                model_tier=self.tier,
                outcome=outcome,
                error_type=error_type,
                visible=visible,
                provider_request_id=f"req_{self.rng.getrandbits(64):016x}",
                usage=usage,
                duration_ms=(node.end - node.start) // MS,
            )
        )

    def _timings(self) -> Timings:
        stages = {f"{_snake(stage)}": took // MS for stage, took in self.stages.items()}
        first = None if self.first_token is None else self.first_token // MS
        return Timings(**stages, first_token_ms=first, total_ms=self.at // MS)

    def _shared(self) -> dict[str, Any]:
        return {
            "route": self.route.name,
            "model_tier": self.tier,
            "model": MODELS[self.tier],
            "conversation_id": self.conversation,
            "tools_used": tuple(dict.fromkeys(call.name for call in self.calls)),
            "tools_with_results": tuple(dict.fromkeys(c.name for c in self.calls if c.outcome is ToolOutcome.RESULTS)),
            "tool_calls": tuple(self.calls),
            "usage": sum((attempt.usage for attempt in self.attempts), Usage()),
            "attempts": tuple(self.attempts),
            "started_at": self.started_at,
            "stage_timings": self._timings(),
            "service": SERVICE,
        }

    def _done(self, status: CompletionStatus) -> DoneMetadata:
        found = 0 if status is CompletionStatus.FALLBACK else max(self.hits, self.rng.choice((0, 0, 1)) if self.calls else 0)
        details = tuple(
            SourceDetail(
                url=url,
                title=title,
                publisher=publisher,
                origins=tuple(self.rng.sample((Origin.RETRIEVAL, Origin.TOOL, Origin.ANSWER), self.rng.randint(1, 2))),
                score=round(self.rng.uniform(0.3, 0.98), 3),
            )
            for url, title, publisher in self.rng.sample(PAGES, found)
        )
        chunks = self.rng.randint(4, 90)
        return DoneMetadata(
            **self._shared(),
            answer="",
            chunk_count=chunks,
            streamed_sha256=f"{self.rng.getrandbits(256):064x}",
            answer_matches_stream=self.rng.random() < 0.8,
            sources=tuple(detail.url for detail in details),
            source_details=details,
            completion_status=status,
            partial=partial_for(status, chunks),
            reason=self.reason,
            finish_reason="max_tokens" if status is CompletionStatus.TRUNCATED else "end_turn" if self.reason is None else None,
            degraded=status is CompletionStatus.DEGRADED,
            fallback=status is CompletionStatus.FALLBACK,
        )

    def _error(self) -> ErrorMetadata:
        return ErrorMetadata(**self._shared(), reason=self.reason or Reason.PROVIDER_ERROR)

    def _finished(self, outcome: DoneMetadata | ErrorMetadata | None) -> SyntheticTurn:
        """Closes the root and makes the records. Without an outcome the turn never ends, and its root is never sent."""
        turn_id, trace_id, span_id = (f"{self.rng.getrandbits(bits):0{bits // 4}x}" for bits in (128, 128, 64))
        turn_id = f"trn_{turn_id}"
        accepted = TurnAccepted(
            turn_id=turn_id,
            trace_id=trace_id,
            span_id=span_id,
            started_at=self.started_at,
            deadline_ms=60_000,
            conversation_id=self.conversation,
            service=SERVICE,
        )
        self.root.end = self.at
        if outcome is None:
            return SyntheticTurn(self.start_ns, accepted, self.root, None)
        done = outcome if isinstance(outcome, DoneMetadata) else None
        failed = None if isinstance(outcome, DoneMetadata) else outcome
        self._fill_root(outcome)
        record = TurnDone(
            turn_id=turn_id,
            trace_id=trace_id,
            span_id=span_id,
            ended_at=datetime.fromtimestamp((self.start_ns + self.at) // 1000 / 1e6, UTC),
            terminal="done" if done else "error",
            answer_chars=self.rng.randint(200, 2400) if done else 0,
            done=done,
            error=failed,
            error_code=failed.reason.value if failed and failed.reason else None,
            error_message=None if done else "The model is overloaded.",
            retryable=None if done else True,
        )
        return SyntheticTurn(self.start_ns, accepted, self.root, record)

    def _fill_root(self, outcome: DoneMetadata | ErrorMetadata) -> None:
        done = outcome if isinstance(outcome, DoneMetadata) else None
        optional = {
            names.TURN_COMPLETION_STATUS: done.completion_status.value if done else None,
            names.TURN_REASON: outcome.reason.value if outcome.reason else None,
            names.TURN_FIRST_TOKEN_MS: outcome.stage_timings.first_token_ms,
        }
        self.root.attributes = {
            names.GEN_AI_OPERATION: names.OPERATION_TURN,
            names.TURN_ROUTE: self.route.name,
            names.TURN_MODEL_TIER: self.tier,
            names.TURN_PARTIAL: done.partial if done else False,
            names.TURN_VISIBLE: self.first_token is not None,
            names.TURN_TOTAL_MS: self.at // MS,
            names.SOURCES_COUNT: len(done.sources) if done else 0,
            names.GEN_AI_CONVERSATION_ID: self.conversation,
            **{name: value for name, value in optional.items() if value is not None},
        }
        ours = _ours(outcome.reason)
        self.root.error = ours.value if ours and (done is None or done.partial) else None
        left = outcome.reason is Reason.CLIENT_DISCONNECTED
        deliver = Node(names.SPAN_DELIVER, self.stages.get(Stage.AUTH, 0) + 30 * MS, self.at + 2 * MS)
        deliver.attributes = {
            names.VIEWER_DELIVERED_SEQ: self.rng.randint(3, 80),
            names.VIEWER_DISCONNECTED: left,
            names.VIEWER_RESUMED_FROM: 0,
        }
        self.root.children.append(deliver)


def _ours(reason: Reason | None) -> Reason | None:
    """The reason, where it lies on our side of the wire."""
    theirs = {Reason.CLIENT_CANCELLED, Reason.CLIENT_DISCONNECTED, Reason.REFUSAL, Reason.OUTPUT_LIMIT}
    return None if reason in theirs else reason


def _snake(stage: Stage) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in stage.value)
