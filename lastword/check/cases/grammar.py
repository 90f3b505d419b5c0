"""Grammar: which events may follow each other, and whether the done record tells the truth."""

from __future__ import annotations

import json
import random
import re
from typing import Any
from urllib.parse import quote

from lastword.check.bench import PROBE, Bench
from lastword.check.case import Failed, Need, NotTried, case
from lastword.check.steps import SOURCE, WEB
from lastword.check.stream import TurnStream
from lastword.events import (
    Ack,
    Attempt,
    CompletionStatus,
    DoneMetadata,
    ErrorMetadata,
    Reason,
    ServiceInfo,
    SourceDetail,
    ToolCall,
    Usage,
    partial_for,
)
from lastword.states import Stage
from lastword.urls import normalize_url

_BATCH = 24
_ABSOLUTE = re.compile(r"https?://[^/\s]+")
_ENDED_FAULTS = ("cut", "reset", "overload", "error=api_error", "corrupt", "shapeless")
_ENDS = ("end", "end", "end", "stop=max_tokens", "stop=refusal", "stop=null", "stop=wibble", "stop=pause_turn", *_ENDED_FAULTS)
_MIDDLES = ("text", "say=Hello%20there.%20", "thinking", "web", "words=5", "ping", "say=")
_STATUSES = ("529", "500", "429=1", "400")


def _random_call(rng: random.Random) -> str:
    if rng.random() < 0.12:
        return rng.choice(_STATUSES)
    steps = [rng.choice(_MIDDLES) for _ in range(rng.randrange(4))]
    end = "hang" if rng.random() < 0.01 else rng.choice(_ENDS)
    return ", ".join([*steps, end])


def random_script(rng: random.Random) -> str:
    """A script of one to three calls, with faults anywhere."""
    return " | ".join(_random_call(rng) for _ in range(rng.randint(1, 3)))


def check_grammar(turn: TurnStream) -> None:
    """Expects the order of events that the contract allows, and a terminal that agrees with them."""
    kinds = [event.kind for event in turn.events]
    turn.expect(len(turn.terminals) == 1, f"the stream has {len(turn.terminals)} terminals")
    turn.expect(kinds[-1] in {"done", "error"}, f"{kinds[-1]!r} follows the terminal")
    turn.expect(kinds[0] == "ack" or kinds == ["error"], f"the first event is {kinds[0]!r}")
    turn.expect(kinds.count("ack") <= 1, "ack came twice")
    seqs = [event.seq for event in turn.events]
    turn.expect(seqs == list(range(1, len(seqs) + 1)), f"seq runs {seqs[:20]}")
    turn.expect(kinds[-1] != "error" or not turn.chunks, "an error follows visible text")
    if kinds[-1] == "done":
        _check_done(turn)


def _check_done(turn: TurnStream) -> None:
    done = turn.metadata
    turn.expect(done.get("chunkCount") == len(turn.chunks), f"chunkCount is {done.get('chunkCount')}, {len(turn.chunks)} came")
    turn.expect(done.get("streamedSha256") == turn.digest(), "streamedSha256 is not the digest of the chunks")
    status = str(done.get("completionStatus"))
    turn.expect(status in set(CompletionStatus), f"completionStatus {status!r} is not in the contract")
    expected = partial_for(CompletionStatus(status), len(turn.chunks))
    turn.expect(
        done.get("partial") is expected, f"partial is {done.get('partial')} with {status} and {len(turn.chunks)} chunks"
    )
    reason = done.get("reason")
    turn.expect(reason is None or str(reason) in set(Reason), f"reason {reason!r} is not in the contract")
    turn.expect((reason is None) == (status == "success"), f"reason is {reason!r} with {status}")


@case(
    "G15",
    "exactly one terminal over 500 random fault scripts",
    rule="contract 2: exactly one terminal ends a turn; contract 6.1",
    why="A turn without a terminal hangs a client for ever; one with two is counted twice.",
    limit_s=240,
)
def one_terminal(bench: Bench) -> None:
    """Whatever the provider does, on whatever route, every stream keeps the grammar. A failure names the script."""
    rng = random.Random(bench.options.seed)
    left = bench.options.random_turns
    known: list[str | None] = [*bench.facts.routes[:8]]
    routes = known if known and bench.options.route is None else [bench.options.route]
    batch = max(1, min(_BATCH, (bench.facts.max_turns or _BATCH) // 2))
    while left > 0:
        turns = [bench.open(random_script(rng), route=rng.choice(routes)) for _ in range(min(batch, left))]
        left -= len(turns)
        for turn in turns:
            check_grammar(turn.head().finish())
            turn.leave()


@case(
    "G16",
    "error means no chunk",
    rule="contract 2: an error never follows visible text",
    why="A client throws an error's turn away; text that a person has read must not vanish.",
)
def no_error_after_text(bench: Bench) -> None:
    """After text, every fault ends in done."""
    for fault in (*_ENDED_FAULTS, "stop=null", "stop=wibble"):
        turn = bench.ask(f"text, slow=0.1, {fault}")
        turn.expect(turn.chunks, "no text was shown though the provider sent some")
        turn.expect(turn.status[:6] != "error:", "an error follows visible text")


@case(
    "G17",
    "no empty chunk",
    rule="contract 2: chunk carries text, never empty",
    why="An empty chunk counts as the first token, and makes waiting look short.",
)
def no_empty_chunk(bench: Bench) -> None:
    """Empty deltas and thoughts show nothing."""
    turn = bench.ask("thinking, say=, say=Hello, say=, say=%20world., say=, end")
    for chunk in turn.chunks:
        text = chunk.data.get("text")
        turn.expect(isinstance(text, str) and text, f"a chunk has the text {text!r}")
    turn.expect(turn.text.strip() == "Hello world.", f"the text arrived as {turn.text!r}")


@case(
    "G18",
    "streamedSha256 and chunkCount are true",
    rule="contract 2: chunkCount, streamedSha256 (over all chunk text)",
    why="They are how a client that saved the stream proves that it has all of it.",
    needs=Need.NOTHING,
)
def digest(bench: Bench) -> None:
    """Count and digest are those of what came, for whole and for cut answers."""
    for script in ("text, end", "say=%C3%A9%F0%9F%8C%8A%20ok, end", "words=30, end", "text, slow=0.1, cut"):
        turn = bench.ask(script)
        turn.expect(turn.metadata.get("chunkCount") == len(turn.chunks), f"chunkCount is {turn.metadata.get('chunkCount')}")
        turn.expect(turn.metadata.get("streamedSha256") == turn.digest(), "streamedSha256 is not the digest of the chunks")


@case(
    "G19",
    "status and partial agree",
    rule="contract 2: the table of completionStatus and partial; reason is null for success",
    why="Partial rates are counted from these fields.",
)
def statuses(bench: Bench) -> None:
    """Every way to end has the partial and the reason that the table gives it."""
    expected = {
        "text, end": ("success",),
        "text, slow=0.1, cut": ("interrupted",),
        "text, stop=max_tokens": ("truncated",),
        "text, stop=model_context_window_exceeded": ("truncated",),
        "stop=refusal": ("refused",),
        "text, stop=refusal": ("refused",),
        "529": ("degraded", "fallback", "error"),
    }
    for script, allowed in expected.items():
        turn = bench.ask(script)
        turn.expect_status(*allowed)
        check_grammar(turn)


_NESTED: tuple[tuple[str, type[Any]], ...] = (
    ("sourceDetails", SourceDetail),
    ("toolCalls", ToolCall),
    ("attempts", Attempt),
    ("usage", Usage),
    ("service", ServiceInfo),
)


def _check_fields(turn: TurnStream, what: str, value: object, struct: type[Any]) -> None:
    turn.expect(isinstance(value, dict), f"{what} is no object")
    missing = sorted(set(struct.__struct_encode_fields__) - set(value if isinstance(value, dict) else {}))
    turn.expect(not missing, f"{what} lacks {', '.join(missing)}")


def _check_types(turn: TurnStream, what: str, value: object, struct: type[Any]) -> None:
    import msgspec

    try:
        msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        raise Failed(f"{what}: {error}", turn.evidence()) from None


@case(
    "G20",
    "required fields and types",
    rule="contract 2: what each event carries; done.metadata",
    why="An application persists this record; a missing field is found a month later.",
    needs=Need.NOTHING,
)
def required_fields(bench: Bench) -> None:
    """`ack` and `done` carry everything, of the right types; so does `error`, as far as it is known."""
    turn = bench.ask("web, text, cite, end")
    _check_fields(turn, "ack", turn.ack, Ack)
    _check_types(turn, "ack", turn.ack, Ack)
    for event in turn.events:
        turn.expect(isinstance(event.data.get("tMs"), int), f"tMs of {event.kind!r} is {event.data.get('tMs')!r}")
    done = turn.metadata
    _check_fields(turn, "done.metadata", done, DoneMetadata)
    _check_types(turn, "done.metadata", done, DoneMetadata)
    for name, struct in _NESTED:
        values = done[name] if isinstance(done[name], list) else [done[name]]
        for value in values:
            _check_fields(turn, name, value, struct)
    if Need.PROVIDER not in bench.has:
        bench.note("without the fake provider no error can be provoked: its fields were not judged")
        return
    turn.expect(done["attempts"], "attempts is empty though the provider was called")
    routes: list[str | None] = [*bench.facts.routes[:8]] or [None]
    errors = sum(_check_error(bench, route) for route in routes)
    if not errors:
        bench.note("no route ends in an error: its fields were not judged")


def _check_error(bench: Bench, route: str | None) -> bool:
    """The fields of an `error`; false where this route falls back to a safe answer."""
    failed = bench.ask("529", route=route)
    if not failed.status.startswith("error:") or failed.terminal is None:
        return False
    for name, types in (("code", str), ("message", str), ("retryable", bool), ("retryAfterMs", int | None)):
        failed.expect(name in failed.terminal.data, f"error lacks {name}")
        value = failed.terminal.data[name]
        failed.expect(isinstance(value, types), f"{name} of an error is {value!r}")
    _check_types(failed, "error.metadata", failed.metadata, ErrorMetadata)
    return True


_PAUSED_BEFORE_TEXT_MS = {"slow=0.2, words=4@0.05, end": 200}


@case(
    "G21",
    "timings add up",
    rule="contract 1: stages are disjoint, their sum never exceeds totalMs; a stage that did not run is absent, never 0",
    why="A chart of stages that overlap, or of zeros that were never measured, lies.",
)
def timings(bench: Bench) -> None:
    """No stage is negative, none is double, none is made up."""
    keys = {stage.value for stage in Stage}
    for script in (*_PAUSED_BEFORE_TEXT_MS, "overload | slow=0.1, text, end", "text, slow=0.2, cut", "stop=refusal"):
        turn = bench.ask(script)
        found = turn.metadata.get("stageTimings")
        times: dict[str, Any] = found if isinstance(found, dict) else {}
        total = times.get("totalMs")
        if not isinstance(total, int):
            raise Failed(f"totalMs is {total!r}", turn.evidence())
        stages = {name: value for name, value in times.items() if name not in {"totalMs", "firstTokenMs"}}
        unknown = set(stages) - keys
        turn.expect(not unknown, f"stageTimings has {', '.join(sorted(unknown))}, which the contract does not know")
        for name, value in stages.items():
            turn.expect(isinstance(value, int) and value >= 0, f"{name} is {value!r}")
        turn.expect(sum(stages.values()) <= total, f"the stages sum to {sum(stages.values())} ms of {total} ms")
        first = times.get("firstTokenMs")
        shown = bool(turn.chunks)
        turn.expect((first is not None) == shown, f"firstTokenMs is {first!r} with {len(turn.chunks)} chunks")
        turn.expect(
            first is None or (isinstance(first, int) and first <= total), f"firstTokenMs {first} exceeds totalMs {total}"
        )
        turn.expect(("streamMs" in stages) == shown, f"streamMs is {stages.get('streamMs')!r} with {len(turn.chunks)} chunks")
        paused = _PAUSED_BEFORE_TEXT_MS.get(script, 0)
        for name, value in (("firstTokenMs", first), ("modelWaitMs", stages.get("modelWaitMs", 0))):
            told = value if isinstance(value, int) else 0
            turn.expect(told >= paused - 10, f"{name} is {value}, though the model was silent for {paused} ms before its text")
        wall = turn.since_sent(turn.events[-1].at) * 1000
        turn.expect(total <= wall + 50, f"totalMs is {total}, but only {wall:.0f} ms have passed")


@case(
    "G22",
    "sources are unique, absolute and in a stable order",
    rule="contract 4: normalised, ordered by first evidence, de-duplicated; each keeping all its origins",
    why="The same page listed twice, or a link that leads nowhere, costs the trust that sources are there to earn.",
)
def sources(bench: Bench) -> None:
    """Search results and citations become sources, once each, in the order in which they came."""
    twin = quote("https://PROVIDER.example:443/cited?utm_source=x#top", safe="")
    script = f"web, text, cite, cite={twin}, cite, end"
    orders = []
    for _ in range(2):
        turn = bench.ask(script)
        urls = turn.metadata.get("sources")
        details = turn.objects("sourceDetails")
        if not isinstance(urls, list):
            raise Failed("sources is no list", turn.evidence())
        for url in urls:
            turn.expect(_ABSOLUTE.match(str(url)), f"source {url!r} is no absolute URL")
        normal = [normalize_url(str(url)) for url in urls]
        turn.expect(len(set(normal)) == len(normal), f"a page is listed twice: {urls}")
        turn.expect([detail.get("url") for detail in details] == urls, "sourceDetails and sources differ")
        for url in (WEB, SOURCE):
            turn.expect(url in urls, f"{url}, which the provider gave as evidence, is no source")
            origins = details[urls.index(url)].get("origins")
            turn.expect(isinstance(origins, list) and "payload" in origins, f"the origins of {url} are {origins}")
        turn.expect(urls.index(WEB) < urls.index(SOURCE), "sources are not in the order of their first evidence")
        orders.append([url for url in urls if url in {WEB, SOURCE}])
    turn.expect(orders[0] == orders[1], "the order of sources changes from turn to turn")


@case(
    "G23",
    "toolsWithResults leaves out empty, failed and timed-out tools",
    rule="contract 4: a tool counts only where it returned usable evidence",
    why="A tool that found nothing and is counted hides that the answer had no evidence.",
    limit_s=120,
)
def tools_with_results(bench: Bench) -> None:
    """Only a tool with results counts. Without the probe tool, what can be provoked from outside is tried."""
    try:
        route = bench.probe_route()
    except NotTried as missing:
        bench.note(str(missing))
        turn = bench.ask("use=no_such_tool:{}, tools | text, end")
        _check_tools(turn, "no_such_tool", {"error"}, counts=False)
        return
    for behaviour, outcomes in (("results", {"results"}), ("empty", {"empty"}), ("error", {"error"}), ("hang", {"timeout"})):
        given = quote(json.dumps({"behaviour": behaviour}), safe="")
        turn = bench.ask(f"use={PROBE}:{given}, tools | text, end", route=route)
        _check_tools(turn, PROBE, outcomes, counts=behaviour == "results")


def _words(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _check_tools(turn: TurnStream, name: str, outcomes: set[str], *, counts: bool) -> None:
    done = turn.metadata
    calls = turn.objects("toolCalls")
    turn.expect([call.get("name") for call in calls] == [name], f"toolCalls is {calls}, expected one call of {name}")
    turn.expect(calls[0].get("outcome") in outcomes, f"the outcome is {calls[0].get('outcome')!r}, expected {sorted(outcomes)}")
    listed = name in _words(done.get("toolsWithResults"))
    turn.expect(listed == counts, f"toolsWithResults is {done.get('toolsWithResults')} after {calls[0].get('outcome')}")
    turn.expect(name in _words(done.get("toolsUsed")), f"toolsUsed is {done.get('toolsUsed')}")


@case(
    "G24",
    "the canonical answer is clean, and answerMatchesStream is true to fact",
    rule="contract 4: citation markers such as [1] are cleaned; contract 2: answer, answerMatchesStream",
    why="Clients replace what they displayed with `answer`: it has to be the better text, and they have to know when it differs.",
)
def canonical_answer(bench: Bench) -> None:
    """Markers are gone, words are not, and the flag says what is so."""
    said = quote("Streams [1] break [2, 3] often, and stay [4] broken.", safe="")
    for script, words in ((f"say={said}, end", "Streams break often, and stay broken."), ("text, end", None)):
        turn = bench.ask(script)
        answer = turn.metadata.get("answer")
        turn.expect(isinstance(answer, str) and answer, f"answer is {answer!r}")
        turn.expect(words is None or answer == words, f"answer is {answer!r}, expected {words!r}")
        same = answer == turn.text
        turn.expect(turn.metadata.get("answerMatchesStream") is same, f"answerMatchesStream is not {same}")
        turn.expect(set(str(answer).split()) <= set(turn.text.split()), "answer has words that were never streamed")
