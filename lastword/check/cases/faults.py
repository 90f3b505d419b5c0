"""Provider faults: what becomes of a turn when the model breaks, before and after visible text."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from lastword.check.bench import PROBE, Bench
from lastword.check.case import NotTried, case
from lastword.check.exchange import Exchange
from lastword.check.steps import SECRET, WORDS
from lastword.check.stream import TurnStream

_BEFORE = "contract 3: before the first chunk, retry within the budget"
_AFTER = "contract 3: after the first chunk, never call the provider again; keep the partial"
_STALL_LIMIT_S = 150.0


def _expect_retried(bench: Bench, script: str) -> TurnStream:
    """A fault of the first call before text: one more call, and the whole answer once."""
    turn = bench.ask(script)
    turn.expect_status("success")
    bench.expect_calls(turn, 2)
    turn.expect(turn.text.strip() == "".join(WORDS).strip(), f"the text arrived as {turn.text!r}")
    attempts = turn.objects("attempts")
    turn.expect(len(attempts) == 2, f"attempts lists {len(attempts)} tries of 2")
    return turn


def _expect_kept(bench: Bench, script: str, *reasons: str) -> TurnStream:
    """A fault after text: the partial is kept and the provider is left alone."""
    turn = bench.ask(script)
    reason = str(turn.metadata.get("reason"))
    turn.expect_partial(reason=reason if reason in reasons else reasons[0])
    turn.expect(turn.text.strip() == "".join(WORDS).strip(), f"the text arrived as {turn.text!r}")
    bench.expect_calls(turn, 1)
    return turn


@case(
    "P25",
    "overload inside the stream before text is retried",
    rule=f"{_BEFORE}; an overload inside the stream comes with status 200",
    why="SDKs do not retry what came with a 200; a turn that gives up here fails for nothing.",
)
def overload_before_text(bench: Bench) -> None:
    """One more call, and success."""
    _expect_retried(bench, "overload | text, end")


@case(
    "P26",
    "overload after text keeps the partial",
    rule=_AFTER,
    why="A second answer glued to half of the first is the worst of both.",
)
def overload_after_text(bench: Bench) -> None:
    """Partial, one provider call."""
    _expect_kept(bench, "text, slow=0.1, overload | text, end", "provider_overloaded")


@case(
    "P27",
    "a clean end before text without message_stop is retried",
    rule=f"{_BEFORE}; a stream that ends without message_stop raises nothing and looks finished",
    why="The SDK takes an empty, cut stream for a finished answer.",
)
def cut_before_text(bench: Bench) -> None:
    """An empty stream is no answer."""
    _expect_retried(bench, "thinking, cut | text, end")


@case(
    "P28",
    "a clean end after text is interrupted, never success",
    rule="contract 6.3: never success for a truncated stream",
    why="Half an answer that counts as success is invisible to every rate and alert.",
)
def cut_after_text(bench: Bench) -> None:
    """Half an answer is called that."""
    _expect_kept(bench, "text, slow=0.1, cut | text, end", "provider_truncated")


@case(
    "P29",
    "a reset in mid-text keeps the partial",
    rule=_AFTER,
    why="Peer resets are raw transport errors, which handlers for SDK errors miss.",
)
def reset_after_text(bench: Bench) -> None:
    """The connection breaks; the text stays."""
    _expect_kept(bench, "text, slow=0.2, reset | text, end", "provider_error", "provider_truncated")


@case(
    "P30",
    "a corrupt event is retried before text, keeps the partial after it",
    rule="contract 3: corrupt event data is a JSONDecodeError",
    why="One bad byte must not end in an unhandled exception.",
)
def corrupt_event(bench: Bench) -> None:
    """Bad JSON from the provider is a fault like others."""
    _expect_retried(bench, "corrupt | text, end")
    _expect_kept(bench, "text, slow=0.1, corrupt | text, end", "provider_error", "provider_truncated")


def _expect_stalled(bench: Bench, script: str) -> None:
    turn = bench.ask(script)
    turn.expect_partial(reason="stall_timeout")
    bench.expect_calls(turn, 1)
    deadline = turn.ack.get("deadlineMs")
    took = turn.since_sent(turn.events[-1].at) * 1000
    turn.expect(isinstance(deadline, int) and took < deadline, "only the deadline ended the silence, not a watchdog")


@case(
    "P31",
    "a silent stall is ended by a watchdog",
    rule="contract 3: stall watchdogs; service: first-token and stall deadlines",
    why="A provider that goes silent would hold the reader, a worker and a socket until the deadline, or for ever.",
    limit_s=_STALL_LIMIT_S,
)
def silent_stall(bench: Bench) -> None:
    """Silence after text ends the turn with its partial; silence before text is retried."""
    _expect_stalled(bench, "text, hang")
    turn = bench.ask("silent | text, end")
    turn.expect_status("success")
    bench.expect_calls(turn, 2)


@case(
    "P32",
    "a stall with pings is ended by a watchdog",
    rule="contract 3: pings keep a read timeout from firing, so stall watchdogs count content only",
    why="A read timeout never fires while pings come.",
    limit_s=_STALL_LIMIT_S,
)
def pinging_stall(bench: Bench) -> None:
    """Pings are no content, before text and after it."""
    _expect_stalled(bench, "text, pings")
    turn = bench.ask("pings | text, end")
    turn.expect_status("success")
    bench.expect_calls(turn, 2)


@case(
    "P33",
    "retry-after is bounded by the budget",
    rule="contract 3: honouring retry-after only up to the budget",
    why="A provider that asks for an hour must not get it from somebody who waits for an answer.",
)
def long_retry_after(bench: Bench) -> None:
    """The turn ends within its deadline, whether the provider names an hour or a day of the next century."""
    for script in ("429=3600", "429=date"):
        turn = bench.open(script, deadlineMs=2000).head().finish(6)
        took = turn.since_sent(turn.events[-1].at)
        turn.expect(took <= 4.0, f"the turn took {took:.1f} s with a deadline of 2 s")
        turn.expect_status("fallback", "degraded", "error")


@case(
    "P34",
    "max_tokens is truncated",
    rule="contract 3: max_tokens to truncated; contract 2: truncated is partial, reason output_limit",
    why="An answer that stops in mid-sentence is not whole.",
)
def max_tokens(bench: Bench) -> None:
    """The provider's limit shows."""
    turn = bench.ask("text, stop=max_tokens")
    turn.expect_status("truncated")
    turn.expect(turn.metadata.get("partial") is True, "partial is not true")
    turn.expect(turn.metadata.get("reason") == "output_limit", f"reason is {turn.metadata.get('reason')!r}")
    turn.expect(turn.metadata.get("finishReason") == "max_tokens", f"finishReason is {turn.metadata.get('finishReason')!r}")


@case(
    "P35",
    "a refusal is refused, before and after text",
    rule="contract 2: refused; partial where chunkCount > 0",
    why="A refusal is an outcome of its own: neither an error to retry nor a success.",
)
def refusal(bench: Bench) -> None:
    """Not retried, not called success, partial where text was shown."""
    before, after = bench.ask("stop=refusal | text, end"), bench.ask("text, stop=refusal | text, end")
    for turn, partial in ((before, False), (after, True)):
        turn.expect_status("refused")
        bench.expect_calls(turn, 1)
        turn.expect(turn.metadata.get("partial") is partial, f"partial is {turn.metadata.get('partial')}")
        turn.expect(turn.metadata.get("reason") == "refusal", f"reason is {turn.metadata.get('reason')!r}")


@case(
    "P36",
    "pause_turn is resumed, with one terminal",
    rule="contract 3: pause_turn continues within a budget",
    why="A pause is not an end; a server that does not know it stops in mid-answer.",
)
def pause_turn(bench: Bench) -> None:
    """The paused message is sent back, and the answer goes on; pauses without end are truncated."""
    turn = bench.ask("say=First%20half%20, stop=pause_turn | say=second%20half., end")
    turn.expect_status("success")
    bench.expect_calls(turn, 2)
    turn.expect(turn.text.split() == ["First", "half", "second", "half."], f"the text arrived as {turn.text!r}")
    last = bench.calls(turn)[-1].body["messages"][-1]
    turn.expect(
        isinstance(last, dict) and last.get("role") == "assistant", "the continuation does not hand the paused message back"
    )
    endless = bench.ask("say=again%20, stop=pause_turn")
    endless.expect_status("truncated")
    endless.expect(len(bench.calls(endless)) <= 40, "pauses are followed without a bound")


@case(
    "P37",
    "an unknown stop_reason is not success",
    rule="contract 3: null or unknown is never success",
    why="Tomorrow's stop reason may mean anything but 'all is well'.",
)
def unknown_stop_reason(bench: Bench) -> None:
    """What cannot be read is not called whole."""
    for script in ("text, stop=wibble", "text, stop=null"):
        turn = bench.ask(script)
        turn.expect(turn.status not in {"success", "degraded", "fallback"}, f"stop_reason {script[11:]} ended as {turn.status}")


@case(
    "P38",
    "all attempts fail: cheaper tier, then fallback, else a retryable error",
    rule="contract 3: then a cheaper tier (degraded); then the safe answer (fallback), or error where the route has none",
    why="Each step down is better than nothing, and each has to be told apart.",
    limit_s=180,
)
def everything_fails(bench: Bench) -> None:
    """On every route that the server names."""
    routes: list[str | None] = [*bench.facts.routes[:8]] or [None]
    for route in routes:
        turn = bench.ask("529", route=route)
        turn.expect_status("fallback", "error")
        metadata = turn.metadata
        if turn.status == "fallback":
            turn.expect(
                metadata.get("fallback") is True and metadata.get("partial") is False, "fallback is not said, or partial"
            )
            turn.expect(turn.chunks and metadata.get("answer"), "the fallback shows nothing")
        elif turn.terminal is not None:
            turn.expect(turn.terminal.data.get("retryable") is True, "the error after an overload is not retryable")
        models = {call.model for call in bench.calls(turn)}
        turn.expect(metadata.get("attempts"), "attempts is empty")
        if len(models) > 1:
            cheaper = bench.ask("529 ^ text, end", route=route)
            cheaper.expect_status("degraded")
            cheaper.expect(cheaper.metadata.get("degraded") is True, "degraded is not true")
            tiers = [str(attempt.get("modelTier")) for attempt in cheaper.objects("attempts")]
            cheaper.expect(len(set(tiers)) > 1 and tiers[-1] == cheaper.metadata.get("modelTier"), f"the tiers were {tiers}")


_USAGE = ("inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens")


@case(
    "P39",
    "usage sums the attempts; complete=false where one was cut",
    rule="contract 2: usage (inputTokens, outputTokens, cacheReadTokens, cacheWriteTokens, complete)",
    why="Failed tries cost money too.",
)
def usage(bench: Bench) -> None:
    """What every call told is counted once."""
    expected: dict[str, tuple[list[int] | None, bool]] = {
        "text, end": ([11, 7, 3, 2], True),
        "overload | text, end": ([22, 8, 6, 4], False),
        "text, slow=0.1, cut": ([11, 1, 3, 2], False),
    }
    for script, (tokens, complete) in expected.items():
        turn = bench.ask(script)
        found = turn.metadata.get("usage")
        told: dict[str, Any] = found if isinstance(found, dict) else {}
        counted = [told.get(name) for name in _USAGE]
        turn.expect(counted == tokens, f"usage is {counted}, the calls told {tokens}")
        turn.expect(told.get("complete") is complete, f"usage.complete is {told.get('complete')}")
        tries = [attempt.get("usage") for attempt in turn.objects("attempts")]
        summed = [sum(_count(one, name) for one in tries) for name in _USAGE]
        turn.expect(summed == counted, f"the attempts sum to {summed}, usage says {counted}")


def _count(usage: object, name: str) -> int:
    value = usage.get(name) if isinstance(usage, dict) else None
    return value if isinstance(value, int) else 0


@case(
    "P40",
    "a tool that raises, hangs or returns nothing does not break the turn",
    rule="contract 2: toolCalls (outcome of results, empty, error, timeout); contract 4",
    why="Tools are other people's code.",
    limit_s=120,
)
def broken_tools(bench: Bench) -> None:
    """The model is told, and the turn goes on."""
    unknown = bench.ask("use=no_such_tool:{}, tools | text, end")
    unknown.expect_status("success")
    bench.expect_calls(unknown, 2)
    unknown.expect([call.get("outcome") for call in unknown.objects("toolCalls")] == ["error"], "an unknown tool is no error")
    try:
        route = bench.probe_route()
    except NotTried as missing:
        bench.note(str(missing))
        return
    for behaviour, outcome in (("error", "error"), ("hang", "timeout"), ("empty", "empty")):
        given = quote(json.dumps({"behaviour": behaviour}), safe="")
        turn = bench.ask(f"use={PROBE}:{given}, tools | text, end", route=route)
        turn.expect_status("success")
        outcomes = [call.get("outcome") for call in turn.objects("toolCalls")]
        turn.expect(outcomes == [outcome], f"a tool that is told to {behaviour} has the outcomes {outcomes}")
        turn.expect(
            "tool_result" in json.dumps(bench.calls(turn)[-1].body["messages"][-1]),
            "the model is not told what became of its tool",
        )


@case(
    "P41",
    "a secret in the provider's error never reaches the wire",
    rule="contract 6.7: no secret, stack trace or another caller's data on the wire",
    why="Provider errors quote keys and internals; error messages are read by strangers.",
)
def no_secret(bench: Bench) -> None:
    """Neither in the stream nor in the snapshot."""
    for script in ("401", "529", "400", "error=api_error", "text, slow=0.1, error=api_error", "text, slow=0.1, overload"):
        turn = bench.ask(script)
        _expect_clean(turn.exchange, turn)
        _expect_clean(bench.request("GET", f"/v1/turns/{turn.turn_id}"), turn)


def _expect_clean(exchange: Exchange, turn: TurnStream) -> None:
    raw = bytes(exchange.raw)
    for needle, what in ((SECRET.encode(), "a secret of the provider's error"), (b"Traceback", "a stack trace")):
        turn.expect(needle not in raw, f"{what} is on the wire")
