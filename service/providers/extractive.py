"""The embedded provider: answers from what retrieval and tools really returned, and needs no key.

It behaves like a model behind the port: it may ask for a tool first, streams at a natural pace, reports usage, and fails on purpose
where the plan of faults says so. Tokens are counted as characters divided by four, which is near what tokenizers make of English.
"""

from __future__ import annotations

import itertools
import random
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

from lastword.events import Usage
from service.providers.compose import Sentence, compose, content_words
from service.providers.faults import Fault, FaultName, FaultPlan
from service.providers.port import (
    AssistantText,
    Ended,
    Evidence,
    ModelEvent,
    ModelRequest,
    Passage,
    Started,
    TextDelta,
    ToolResult,
    ToolUse,
    UserText,
)
from service.turn.failures import AttemptFailed, FailureKind

BRIEF = "extractive-brief"
THOROUGH = "extractive-thorough"
_SENTENCES = {BRIEF: 2, THOROUGH: 6}
_CHARS_PER_TOKEN = 4
_MAX_ANSWER_TOKENS = 1500
_FIRST_TOKEN_MS = 120
_SLOW_FIRST_TOKEN_S = 4.0
_HANG_S = 600.0
_ARITHMETIC = re.compile(r"[-+(]?\s*\d[\d\s.()]*(?:[-+*/%^][-+*/%^\d\s.()]*)+")
_TIME = re.compile(r"\b(?:what time|current (?:time|date)|what (?:day|date))\b", re.IGNORECASE)
_ZONE = re.compile(r"\b[A-Z][A-Za-z]+/[A-Z][A-Za-z_]+\b")

Wait = Callable[[threading.Event, float], bool]


def _wait(event: threading.Event, seconds: float) -> bool:
    return event.wait(seconds)


class ExtractiveProvider:
    """Composes answers from evidence. Thread-safe."""

    name = "extractive"

    def __init__(self, *, pace_ms: int, faults: FaultPlan, wait: Wait = _wait, seed: int | None = None) -> None:
        self._pace_ms = pace_ms
        self._faults = faults
        self._wait = wait
        self._seed = seed
        self._numbers = itertools.count(1)

    def start(self, request: ModelRequest) -> ExtractiveCall:
        """A call, not yet begun."""
        number = next(self._numbers)
        # By the turn and not by the call's number: other turns at the same time must not change how this one streams.
        rng = random.Random(None if self._seed is None else f"{self._seed} {request.turn_id} {request.attempt}")
        fault = self._faults.fault_for(request.turn_id, request.metadata)
        return ExtractiveCall(
            request,
            fault=fault if fault and fault.strikes(request.attempt) else None,
            pace_ms=self._pace_ms,
            wait=self._wait,
            rng=rng,
            response_id=f"ext_{number}",
        )

    def close(self) -> None:
        """Nothing is held."""


class ExtractiveCall:
    """One call of the embedded provider."""

    def __init__(
        self, request: ModelRequest, *, fault: Fault | None, pace_ms: int, wait: Wait, rng: random.Random, response_id: str
    ) -> None:
        self._request = request
        self._fault = fault.name if fault else None
        self._pace_ms = pace_ms
        self._wait = wait
        self._rng = rng
        self._response_id = response_id
        self._aborted = threading.Event()
        said = sum(len(getattr(item, "text", "")) for item in request.transcript)
        evidence = sum(len(passage.text) for passage in _evidence_of(request))
        self._input_tokens = (len(request.system) + said + evidence) // _CHARS_PER_TOKEN
        self._output_chars = 0
        self._complete = False

    @property
    def usage(self) -> Usage:
        """Tokens so far."""
        return Usage(
            input_tokens=self._input_tokens, output_tokens=-(-self._output_chars // _CHARS_PER_TOKEN), complete=self._complete
        )

    def abort(self) -> None:
        """Wakes the call wherever it waits."""
        self._aborted.set()

    def __iter__(self) -> Iterator[ModelEvent]:
        """Runs the call."""
        self._pause(_FIRST_TOKEN_MS / 1000 if self._pace_ms else 0)
        self._fail_before_text()
        yield Started(response_id=self._response_id, model=self._request.model, request_id=f"req_{self._response_id}")
        use = _tool_use(self._request, self._response_id)
        if use is not None:
            yield use
            yield self._end("tool_use", blocks=({"type": "tool_use", "id": use.id, "name": use.name, "input": use.input},))
            return
        if self._fault is FaultName.REFUSAL:
            yield self._end("refusal")
            return
        text, cited = _answer(self._request)
        for passage in cited:
            yield Evidence(url=passage.url, title=passage.title)
        yield from self._stream(text)

    def _fail_before_text(self) -> None:
        match self._fault:
            case FaultName.OVERLOADED_BEFORE_TEXT:
                raise AttemptFailed(FailureKind.OVERLOADED, "on purpose", error_type="overloaded_error")
            case FaultName.ERROR_BEFORE_TEXT:
                raise AttemptFailed(FailureKind.SERVER_ERROR, "on purpose", error_type="api_error")
            case FaultName.STALL_BEFORE_TEXT:
                self._hang()
            case FaultName.SLOW_FIRST_TOKEN if not _results(self._request):  # once a turn, not once a call
                self._pause(_SLOW_FIRST_TOKEN_S)
            case _:
                pass

    def _stream(self, text: str) -> Iterator[ModelEvent]:
        """The text in small pieces, until its end or the fault."""
        pieces = _pieces(text, self._rng)
        broken_at = max(1, len(pieces) * 2 // 5)
        for number, piece in enumerate(pieces):
            if number == broken_at:
                match self._fault:
                    case FaultName.CUT_AFTER_TEXT:
                        raise AttemptFailed(FailureKind.NETWORK, "on purpose", error_type="connection_reset")
                    case FaultName.STALL:
                        self._hang()
                    case FaultName.TRUNCATED:
                        yield self._end("max_tokens")
                        return
                    case _:
                        pass
            self._pause(self._pace_ms / 1000 * self._rng.uniform(0.5, 1.5))
            self._output_chars += len(piece)
            yield TextDelta(piece)
        yield self._end("end_turn", blocks=({"type": "text", "text": text},))

    def _end(self, stop_reason: str, blocks: tuple[dict[str, Any], ...] = ()) -> Ended:
        self._complete = True
        return Ended(stop_reason=stop_reason, usage=self.usage, blocks=blocks)

    def _pause(self, seconds: float) -> None:
        if (seconds > 0 and self._wait(self._aborted, seconds)) or self._aborted.is_set():
            raise AttemptFailed(FailureKind.NETWORK, "aborted", error_type="aborted")

    def _hang(self) -> None:
        """Goes silent until the call is aborted; bounded, for a caller that never does."""
        self._wait(self._aborted, _HANG_S)
        raise AttemptFailed(FailureKind.NETWORK, "silent", error_type="silent")


def _pieces(text: str, rng: random.Random) -> list[str]:
    """Groups of one to three words, each with the white space before it."""
    words = re.findall(r"\s*\S+", text)
    pieces: list[str] = []
    at = 0
    while at < len(words):
        size = rng.randint(1, 3)
        pieces.append("".join(words[at : at + size]))
        at += size
    return pieces


def _questions(request: ModelRequest) -> list[str]:
    return [item.text for item in request.transcript if isinstance(item, UserText)]


def _subject(request: ModelRequest) -> str:
    """What is asked about; a short follow-up is about what the question before it was about, too."""
    questions = _questions(request)
    follow_up = len(content_words(questions[-1])) < 3 and any(isinstance(item, AssistantText) for item in request.transcript)
    return f"{questions[-2]} {questions[-1]}" if follow_up and len(questions) > 1 else questions[-1]


def _results(request: ModelRequest) -> list[ToolResult]:
    return [item for item in request.transcript if isinstance(item, ToolResult)]


def _evidence_of(request: ModelRequest) -> list[Passage]:
    """The passages of retrieval, then those of tools that are new."""
    found: dict[tuple[str, str], Passage] = {}
    for passage in (*request.passages, *(p for result in _results(request) for p in result.passages)):
        found.setdefault((passage.url, passage.text), passage)
    return list(found.values())


def _tool_use(request: ModelRequest, call_id: str) -> ToolUse | None:
    """The tool to ask for, where none was asked yet."""
    tools = {spec.name for spec in request.tools}
    question = _questions(request)[-1]
    if _results(request):
        return None
    sum_ = _ARITHMETIC.search(question)
    if "calculate" in tools and sum_ and len(content_words(re.sub(r"[\d.]+", " ", question))) <= 1:
        return ToolUse(id=f"call_{call_id}", name="calculate", input={"expression": sum_[0].strip()})
    if "current_time" in tools and _TIME.search(question):
        zone = _ZONE.search(question)
        return ToolUse(id=f"call_{call_id}", name="current_time", input={"timezone": zone[0]} if zone else {})
    words = content_words(_subject(request))
    wanted = request.model != BRIEF or not request.passages
    if "search_knowledge" in tools and words and wanted:
        return ToolUse(id=f"call_{call_id}", name="search_knowledge", input={"query": " ".join(words[:12])})
    return None


def _answer(request: ModelRequest) -> tuple[str, list[Passage]]:
    """The answer's text, with citation markers, and the passages that it cites."""
    facts = [result.text for result in _results(request) if result.name in ("calculate", "current_time")]
    if facts:
        return " ".join(fact if fact.endswith(".") else f"{fact}." for fact in facts), []
    passages = _evidence_of(request)
    wished = request.metadata.get("answer_tokens", "")
    tokens = min(int(wished), _MAX_ANSWER_TOKENS, request.max_output_tokens) if wished.isdigit() and len(wished) < 9 else None
    subject = _subject(request)
    paragraphs = compose(
        subject,
        passages,
        sentences=_SENTENCES.get(request.model, _SENTENCES[THOROUGH]),
        chars=None if tokens is None else tokens * _CHARS_PER_TOKEN,
    )
    if not paragraphs:
        about = " ".join(content_words(subject)[:8]) or "that"
        return f"I found nothing about {about} in the indexed documents.", []
    return _render(paragraphs, passages)


def _render(paragraphs: list[list[Sentence]], passages: list[Passage]) -> tuple[str, list[Passage]]:
    cited: list[Passage] = []
    numbers: dict[int, int] = {}
    texts: list[str] = []
    for paragraph in paragraphs:
        for sentence in paragraph:
            if sentence.passage not in numbers:
                cited.append(passages[sentence.passage])
                numbers[sentence.passage] = len(cited)
        texts.append(" ".join(f"{sentence.text} [{numbers[sentence.passage]}]" for sentence in paragraph))
    return "\n\n".join(texts), cited
