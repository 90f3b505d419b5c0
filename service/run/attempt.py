"""One try at the model: provider calls, tools between them, and text shown as it comes.

Raises `AttemptFailed` for whatever ended the try; what to do then is the policy's decision, not this module's. Invariants: every call and tool is noted
with its times; a call in progress can be aborted through `turn.control`; no loop is without a limit.
"""

from __future__ import annotations

from msgspec import Struct, field

from lastword.events import Origin, ToolOutcome
from lastword.states import State
from service.log import LogFull
from service.providers.port import (
    AssistantBlocks,
    AssistantText,
    Ended,
    Evidence,
    ModelRequest,
    Passage,
    Said,
    Started,
    TextDelta,
    ToolResult,
    ToolUse,
    UserText,
    Working,
)
from service.run.deps import Deps
from service.run.turn import Turn
from service.tools.registry import ToolContext
from service.turn.failures import REASON_OF, AttemptFailed, FailureKind
from service.turn.journal import AttemptNote, CallNote, ToolNote
from service.turn.outcome import Ending, ending_of
from service.turn.timings import NS_PER_MS
from service.watchdog import Watch

_MAX_EVENTS_PER_CALL = 1_000_000


class Finished(Struct, frozen=True, kw_only=True):
    """A try that ended by the provider's own word, or at a limit of ours."""

    ending: Ending
    finish_reason: str | None


class _Call(Struct, kw_only=True):
    """What one provider call brought."""

    ended: Ended | None = None
    tool_uses: list[ToolUse] = field(default_factory=list)


def run_attempt(turn: Turn, deps: Deps, note: AttemptNote) -> Finished:
    """Runs one try; the note is filled in whatever happens.

    Raises:
        AttemptFailed: the try did not end in a whole answer.
    """
    turn.begin_text()
    progress: _Progress | None = None
    try:
        progress = _Progress(turn, deps)
        return _converse(turn, deps, note, progress)
    except AttemptFailed as failure:
        cause = turn.control.cause()
        kind = cause or failure.kind
        note.outcome = REASON_OF[kind].value
        note.error_type = kind.value if cause else failure.error_type
        if kind is not failure.kind:  # what the reader saw of an abort is not what ended the try
            raise AttemptFailed(kind, str(failure), request_id=failure.request_id) from failure
        raise
    except Exception as error:
        note.outcome, note.error_type = REASON_OF[FailureKind.INTERNAL].value, type(error).__name__
        raise
    finally:
        if progress is not None:
            progress.close()
        note.end_ns = turn.now_ns()
        note.visible = turn.machine.state is State.STREAMING


class _Progress:
    """Watches that content keeps coming: first for the first visible chunk, then for stalls. Pings do not count."""

    def __init__(self, turn: Turn, deps: Deps) -> None:
        self._control = turn.control
        self._watchdog = deps.watchdog
        self._now_ns = deps.clock.mono_ns
        self._stall_ns = turn.chosen_route.stall_timeout_ms * NS_PER_MS
        self._attempt = turn.control.begin_attempt()
        self._streaming = False
        self._limit_ns = turn.chosen_route.first_token_timeout_ms * NS_PER_MS
        self._watch = self._begin(FailureKind.FIRST_TOKEN_TIMEOUT)

    def _begin(self, kind: FailureKind) -> Watch:
        control, attempt = self._control, self._attempt
        return self._watchdog.watch(self._now_ns() + self._limit_ns, lambda: control.interrupt(kind, attempt))

    def shown(self) -> None:
        """Text was shown."""
        if not self._streaming:
            self._streaming = True
            self._limit_ns = self._stall_ns
            self._watch.cancel()
            self._watch = self._begin(FailureKind.STALL_TIMEOUT)
        self._watch.due_ns = self._now_ns() + self._limit_ns

    def worked(self) -> None:
        """Content came that is not shown: no stall. The wait for the first text does not get longer by it, for a person sees nothing of it."""
        if self._streaming:
            self._watch.due_ns = self._now_ns() + self._limit_ns

    def extend(self, seconds: float) -> None:
        """A tool runs, within a limit of its own: that is no silence of the provider's."""
        self._watch.due_ns = max(self._watch.due_ns, self._now_ns() + self._limit_ns + round(seconds * 1e9))

    def close(self) -> None:
        """The try has ended."""
        self._watch.cancel()


def _converse(turn: Turn, deps: Deps, note: AttemptNote, progress: _Progress) -> Finished:
    """Calls the provider until it has said its last word: tools and pauses lead to another call."""
    route = turn.chosen_route
    transcript: tuple[Said, ...] = (*_history(turn), UserText(turn.ask.request.message))
    pauses = 0
    for _ in range(route.max_model_calls):
        call = _call_provider(turn, deps, note, transcript, progress)
        if call.ended is None:
            return Finished(ending=Ending.TRUNCATED, finish_reason=None)  # our own limit on the log
        ending = ending_of(call.ended.stop_reason)
        transcript = (*transcript, AssistantBlocks(call.ended.blocks))
        match ending:
            case Ending.TOOLS:
                if len(turn.tool_notes) + len(call.tool_uses) > route.max_tool_calls:
                    return Finished(ending=Ending.TRUNCATED, finish_reason=call.ended.stop_reason)
                transcript = (*transcript, *(_run_tool(turn, deps, note, use, progress) for use in call.tool_uses))
            case Ending.PAUSED if pauses < route.max_pauses:
                pauses += 1
            case Ending.PAUSED:
                return Finished(ending=Ending.TRUNCATED, finish_reason=call.ended.stop_reason)
            case Ending.UNKNOWN:
                raise AttemptFailed(FailureKind.TRUNCATED, error_type=f"stop_reason:{str(call.ended.stop_reason)[:40]}")
            case _:
                return _finish(turn, ending, call.ended.stop_reason)
    return Finished(ending=Ending.TRUNCATED, finish_reason="max_model_calls")


def _finish(turn: Turn, ending: Ending, stop_reason: str | None) -> Finished:
    try:
        turn.show_rest()
    except LogFull:
        return Finished(ending=Ending.TRUNCATED, finish_reason=stop_reason)
    if ending is Ending.COMPLETE and not turn.machine.visible:
        raise AttemptFailed(FailureKind.SERVER_ERROR, "the answer was empty", error_type="empty_answer")
    return Finished(ending=ending, finish_reason=stop_reason)


def _history(turn: Turn) -> list[Said]:
    return [UserText(message.text) if message.role == "user" else AssistantText(message.text) for message in turn.history]


def _call_provider(turn: Turn, deps: Deps, note: AttemptNote, transcript: tuple[Said, ...], progress: _Progress) -> _Call:
    route = turn.chosen_route
    request = ModelRequest(
        model=note.model,
        system=route.system,
        transcript=transcript,
        tools=deps.tools.specs(route.tools),
        passages=turn.passages,
        max_output_tokens=route.max_output_tokens,
        connect_timeout_s=min(10.0, max(turn.left_ms, 1) / 1000),
        read_timeout_s=max(turn.left_ms, 1) / 1000,
        attempt=note.n,
        turn_id=turn.turn_id,
        metadata=turn.ask.request.metadata,
    )
    provider_call = deps.provider.start(request)
    call_note = CallNote(model=note.model, start_ns=turn.now_ns())
    note.calls.append(call_note)
    turn.control.enter(provider_call)
    call = _Call()
    try:
        for count, event in enumerate(provider_call):
            turn.control.check()
            if count > _MAX_EVENTS_PER_CALL:
                raise AttemptFailed(FailureKind.CORRUPT, error_type="too_many_events")
            _take(turn, call, call_note, event, progress)
        if call.ended is None:
            raise AttemptFailed(FailureKind.TRUNCATED, "no end of the message")
    except LogFull:
        provider_call.abort()
        call.ended = None
        call_note.stop_reason = "max_log_bytes"
    except AttemptFailed as failure:
        cause = turn.control.cause()
        call_note.error_type = cause.value if cause else failure.error_type
        call_note.request_id = call_note.request_id or failure.request_id
        raise
    finally:
        turn.control.leave()
        call_note.end_ns = turn.now_ns()
        if call.ended is None:
            call_note.usage = provider_call.usage
    return call


def _take(turn: Turn, call: _Call, note: CallNote, event: object, progress: _Progress) -> None:
    """Applies one event of the provider."""
    if isinstance(event, TextDelta):  # before all others: there are hundreds of it, and a pattern costs more than a look
        if note.first_chunk_ns is None:
            note.first_chunk_ns = turn.now_ns()
        if turn.show(event.text) or turn.machine.visible:
            progress.shown()
        return
    match event:
        case Working():
            progress.worked()
        case ToolUse():
            call.tool_uses.append(event)
        case Evidence(url=url, title=title):
            turn.sources.add(url, Origin.PAYLOAD, title=title)
        case Started():
            note.response_id, note.response_model, note.request_id = event.response_id, event.model, event.request_id
        case Ended():
            call.ended = event
            note.stop_reason, note.usage = event.stop_reason, event.usage
        case _:
            raise AttemptFailed(FailureKind.INTERNAL, f"unknown provider event {type(event).__name__}")


def _run_tool(turn: Turn, deps: Deps, note: AttemptNote, use: ToolUse, progress: _Progress) -> ToolResult:
    """Runs one tool within its own limit and the turn's deadline."""
    start_ns = turn.now_ns()
    progress.extend(deps.tools.time_limit_s(use.name))
    turn.control.check()
    if deps.tools.has_side_effects(use.name):
        turn.side_effects = True  # before it runs: a tool that failed half way may have had them too
    context = ToolContext(
        cancelled=turn.control.stop_event,
        deadline_ns=turn.deadline_mono_ns,
        search=deps.knowledge.search,
        turn_id=turn.turn_id,
        metadata=turn.ask.request.metadata,
    )
    run = deps.tools.run(use.name, use.input, context)
    note.tools.append(
        ToolNote(
            name=use.name,
            call_id=use.id,
            start_ns=start_ns,
            end_ns=turn.now_ns(),
            outcome=run.outcome,
            error_type=run.error_type,
        )
    )
    turn.control.check()
    for passage in run.passages:
        _evidence(turn, passage, Origin.TOOL)
    failed = run.outcome in (ToolOutcome.ERROR, ToolOutcome.TIMEOUT)
    return ToolResult(tool_use_id=use.id, name=use.name, text=run.text, is_error=failed, passages=run.passages)


def _evidence(turn: Turn, passage: Passage, origin: Origin) -> None:
    turn.sources.add(passage.url, origin, title=passage.title, publisher=passage.publisher, score=passage.score)
