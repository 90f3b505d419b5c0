"""Versions, problems and telemetry: what a server says when it refuses, and what it tells its operators."""

from __future__ import annotations

import json
import secrets

from lastword import names
from lastword.check.bench import Bench, json_of
from lastword.check.case import Failed, Level, Need, NotTried, case
from lastword.check.cases.resume import expect_status
from lastword.check.exchange import Exchange
from lastword.check.sink import SinkSpan
from lastword.check.stream import TurnStream
from lastword.states import Stage

_PROBLEM = "application/problem+json"
_SPANS = "telemetry 2: the span tree mirrors the machine"
_MAX_BODY_TRIED = 32_000_000
_TELEMETRY = Need.PROVIDER | Need.TELEMETRY
_SPAN_OF = {
    Stage.AUTH: names.SPAN_AUTH,
    Stage.PRECHECK: names.SPAN_PRECHECK,
    Stage.CONTEXT: names.SPAN_CONTEXT,
    Stage.ROUTE: names.SPAN_ROUTE,
    Stage.RETRIEVAL: names.SPAN_RETRIEVAL,
    Stage.AGENT_SETUP: names.SPAN_AGENT_SETUP,
    Stage.STREAM: names.SPAN_STREAM,
    Stage.POST_PROCESS: names.SPAN_POST_PROCESS,
    Stage.FINALIZE: names.SPAN_FINALIZE,
}


@case(
    "V71",
    "an unknown contract version: 406 with the list",
    rule="contract 5: a request that names a Turn-Contract which the server does not speak",
    why="A client of tomorrow must learn at once what this server speaks.",
    needs=Need.NOTHING,
)
def unknown_version(bench: Bench) -> None:
    """A version of tomorrow is refused, with the list of those that are spoken; turn/1.0 is answered."""
    refused = bench.open(headers={"Turn-Contract": "turn/99.0"}).exchange.read_all(10)
    expect_status(refused, 406, "Turn-Contract: turn/99.0")
    if "turn/1.0" not in str(json_of(refused).get("versions")):
        raise Failed("the 406 does not list the versions that the server speaks", refused.evidence())
    bench.open(headers={"Turn-Contract": "turn/1.0"}).head().finish()


@case(
    "V72",
    "unknown request fields are ignored",
    rule="contract 5: unknown fields are ignored",
    why="Old servers have to bear new clients.",
    needs=Need.NOTHING,
)
def unknown_fields(bench: Bench) -> None:
    """A field of tomorrow changes nothing."""
    turn = bench.open("text, end", novelty={"of": ["tomorrow"]}, temperature=3).head().finish()
    turn.expect(turn.terminal is not None, "the turn has no terminal")


@case(
    "V73",
    "problem+json for 400, 401, 404, 413, 422, 429 and 503",
    rule="contract 5: failures before ack are HTTP statuses with application/problem+json (type, title, status, detail)",
    why="A client that parses one shape handles every refusal.",
    needs=Need.NOTHING,
    limit_s=90,
)
def problems(bench: Bench) -> None:
    """Every refusal that can be provoked has the shape; the others are named."""
    good = {"message": "hello"}
    _expect_problem(bench.request("POST", "/v1/turns", b"{"), 400)
    _expect_problem(bench.request("POST", "/v1/turns", json.dumps({"message": 1}).encode()), 400)
    _expect_problem(bench.request("GET", f"/v1/turns/trn_{secrets.token_hex(16)}"), 404)
    limit = bench.facts.max_body_bytes or 4_000_000
    if limit <= _MAX_BODY_TRIED:
        _expect_problem(bench.request("POST", "/v1/turns", json.dumps({"message": "x" * (limit + 1000)}).encode()), 413)
    else:
        bench.note(f"413 was not tried: limits.maxBodyBytes is {limit}")
    key = secrets.token_hex(8)
    bench.open(headers={"Idempotency-Key": key}).head().finish()
    other = json.dumps({"message": "another"}).encode()
    _expect_problem(bench.request("POST", "/v1/turns", other, {"Idempotency-Key": key}), 422)
    if bench.options.api_key:
        wrong: dict[str, str | None] = {"Authorization": "Bearer wrong-key"}
        _expect_problem(bench.request("POST", "/v1/turns", json.dumps(good).encode(), wrong), 401)
    else:
        bench.note("401 was not tried: no --api-key")
    if bench.options.limited_key:
        _expect_limited(bench, bench.options.limited_key)
    else:
        bench.note("429 was not tried: no --limited-key")
    bench.note("503 is tried by F64")


def _expect_limited(bench: Bench, key: str) -> None:
    """Asks with a key of few turns a minute until it is refused."""
    for _ in range(100):
        turn = bench.open(headers={"Authorization": f"Bearer {key}"})
        turn.exchange.read_all(15)
        if turn.exchange.status == 429:
            _expect_problem(turn.exchange, 429)
            if not (turn.exchange.header("retry-after") or "").isdigit():
                raise Failed("429 without Retry-After in seconds", turn.evidence())
            return
    raise Failed("a hundred turns with --limited-key, and no 429")


def _expect_problem(got: Exchange, status: int) -> None:
    expect_status(got, status, "a refusal")
    kind = (got.header("content-type") or "").partition(";")[0]
    if kind != _PROBLEM:
        raise Failed(f"a {status} has the content type {kind!r}", got.evidence())
    body = json_of(got)
    for name, type_ in (("type", str), ("title", str), ("status", int), ("detail", str)):
        if not isinstance(body.get(name), type_):
            raise Failed(f"the problem document of a {status} has {name}={body.get(name)!r}", got.evidence())
    if body["status"] != status:
        raise Failed(f"the problem document of a {status} says {body['status']}", got.evidence())


@case(
    "V74",
    "traceparent is continued; malformed is tolerated; flags 03 accepted",
    rule="contract 5: traceparent is continued; a malformed one starts a new trace and is never an error",
    why="One trace from the browser to the model is what telemetry is for.",
    needs=Need.NOTHING,
)
def traceparent(bench: Bench) -> None:
    """`ack.traceId` is the caller's, or a fresh one."""
    for flags in ("01", "03"):
        trace = secrets.token_hex(16)
        turn = bench.open(headers={"traceparent": f"00-{trace}-{secrets.token_hex(8)}-{flags}"}).head().finish()
        turn.expect(
            turn.ack.get("traceId") == trace, f"traceId is {turn.ack.get('traceId')!r}, expected {trace} (flags {flags})"
        )
    for malformed in ("garbage", f"00-{'0' * 32}-{'0' * 16}-01", "ff-" + "a" * 32 + "-" + "b" * 16 + "-01"):
        turn = bench.open(headers={"traceparent": malformed}).head().finish()
        trace_id = str(turn.ack.get("traceId"))
        fresh = len(trace_id) == 32 and trace_id.strip("0") and trace_id not in malformed
        turn.expect(fresh, f"traceId is {trace_id!r} after a malformed traceparent")


def _expect_heard(bench: Bench) -> None:
    if not bench.sink.heard:
        raise NotTried("the server sent no telemetry to the sink (OTLP over HTTP as protobuf)")


def spans_of(bench: Bench, turn: TurnStream) -> list[SinkSpan]:
    """The spans of a turn's trace, once its root is there.

    Raises:
        NotTried: no telemetry has ever reached the sink.
    """
    trace_id = str(turn.ack.get("traceId"))

    def exported() -> bool:
        return any(span.name == names.SPAN_TURN for span in bench.sink.spans_of(trace_id))

    try:
        bench.budget.wait_for(exported, bench.options.patience_s, f"the span {names.SPAN_TURN!r}")
    except Failed:
        _expect_heard(bench)
        raise Failed(
            f"no span {names.SPAN_TURN!r} of trace {trace_id} within {bench.options.patience_s:g} s", turn.evidence()
        ) from None
    bench.budget.pause(0.3)  # what was exported in the next batch
    return bench.sink.spans_of(trace_id)


def _of_stage(spans: list[SinkSpan], stage: Stage) -> list[SinkSpan]:
    name = _SPAN_OF[stage]
    return [span for span in spans if span.name == name or (stage is Stage.RETRIEVAL and span.name.startswith(f"{name} "))]


@case(
    "V75",
    "one root span per turn; spans are the states reached",
    rule=_SPANS,
    why="A trace that shows what did not happen, or hides what did, is worse than none.",
    needs=_TELEMETRY,
    limit_s=120,
)
def span_tree(bench: Bench) -> None:
    """A span for each stage in the terminal, and no other; one attempt span for each try."""
    for script in ("text, end", "overload | text, end", "stop=refusal", "text, slow=0.1, cut"):
        turn = bench.ask(script)
        spans = spans_of(bench, turn)
        ids = {span.span_id for span in spans}
        turn.expect(len(ids) == len(spans), "two spans have one id")
        roots = [span for span in spans if span.parent_id not in ids]
        turn.expect([root.name for root in roots] == [names.SPAN_TURN], f"the roots are {[root.name for root in roots]}")
        times = turn.fields("stageTimings")
        for stage, name in _SPAN_OF.items():
            count = len(_of_stage(spans, stage))
            wanted = int(stage.value in times)
            turn.expect(count == wanted, f"{count} spans {name!r}, stageTimings has {stage.value}: {bool(wanted)}")
        tries = [span for span in spans if span.name == names.SPAN_ATTEMPT]
        told = len(turn.objects("attempts"))
        turn.expect(len(tries) == told, f"{len(tries)} spans {names.SPAN_ATTEMPT!r}, {told} attempts in the terminal")


@case(
    "V76",
    "span durations and timings agree within 5 ms",
    rule="contract 1: span tree and stageTimings are derived from the same transitions and the same clock readings",
    why="Two clocks that disagree make every comparison a guess.",
    needs=_TELEMETRY,
)
def durations(bench: Bench) -> None:
    """Stage by stage, and the whole."""
    turn = bench.ask("slow=0.2, words=6@0.05, end")
    spans = spans_of(bench, turn)
    found = turn.fields("stageTimings")
    times = {name: value for name, value in found.items() if isinstance(value, int)}
    for name in ("totalMs", "modelWaitMs"):
        turn.expect(name in times, f"{name} is {found.get(name)!r}")
    for stage in _SPAN_OF:
        for span in _of_stage(spans, stage):
            told = times.get(stage.value, 0)
            turn.expect(abs(span.ms - told) <= 5, f"{span.name} took {span.ms:.1f} ms as a span, {told} in stageTimings")
    root = next(span for span in spans if span.name == names.SPAN_TURN)
    turn.expect(root.ms >= times["totalMs"] - 5, f"the root span took {root.ms:.1f} ms, totalMs is {times['totalMs']}")
    starts = {span.name: span.start_ns for span in reversed(spans)}
    for name in (names.SPAN_STREAM, names.SPAN_ATTEMPT):
        turn.expect(name in starts, f"there is no span {name!r}")
    waited = (starts[names.SPAN_STREAM] - starts[names.SPAN_ATTEMPT]) / 1e6
    turn.expect(
        abs(waited - times["modelWaitMs"]) <= 5,
        f"first attempt to stream took {waited:.1f} ms as spans, {times['modelWaitMs']} in stageTimings",
    )


@case(
    "V77",
    "no span per chunk",
    rule="telemetry 2: no span per chunk",
    why="A thousand spans for one answer cost more than the answer.",
    needs=_TELEMETRY,
)
def no_span_per_chunk(bench: Bench) -> None:
    """A long answer has as many spans as a short one."""
    short, long = (len(spans_of(bench, bench.ask(f"words={count}@0.01, end"))) for count in (3, 60))
    if long > short + 3:
        raise Failed(f"3 pieces of text made {short} spans, 60 made {long}")


@case(
    "V78",
    "tokens are not counted twice",
    level=Level.SHOULD,
    rule="telemetry 2: the SDK's own tracing is off, or tokens would be counted twice",
    why="Backends sum tokens over spans: the bill doubles without a token more.",
    needs=_TELEMETRY,
)
def tokens(bench: Bench) -> None:
    """The chat spans sum to the done record's usage, one span for each provider call."""
    turn = bench.ask("overload | text, end")
    spans = spans_of(bench, turn)
    counted = [span for span in spans if names.GEN_AI_INPUT_TOKENS in span.attributes and span.name != names.SPAN_TURN]
    calls = len(bench.calls(turn))
    turn.expect(len(counted) == calls, f"{len(counted)} spans below the root carry tokens, {calls} calls were made")
    usage = turn.fields("usage")
    for attribute, name in ((names.GEN_AI_INPUT_TOKENS, "inputTokens"), (names.GEN_AI_OUTPUT_TOKENS, "outputTokens")):
        told = [span.attributes.get(attribute, 0) for span in counted]
        total = sum(value for value in told if isinstance(value, int))
        turn.expect(total == usage.get(name), f"spans sum to {total} {name}, usage says {usage.get(name)}")


@case(
    "V79",
    "a record exists exactly where a terminal was appended",
    rule="telemetry 1: turn.done records are at least once, never sampled, written with the terminal",
    why="Rates, counts and alerts are computed from these records alone.",
    needs=_TELEMETRY,
    limit_s=90,
)
def records(bench: Bench) -> None:
    """One `turn.done` for each way to end; none while the turn runs; none more for a replay."""
    turns = [bench.ask(script) for script in ("text, end", "529", "text, slow=0.1, cut", "stop=refusal")]
    running = bench.open("words=400@0.05, end", onDisconnect="cancel").head().read_chunk(1)
    for turn in turns:
        bench.follow(turn.turn_id).head().finish()

    def arrived() -> bool:
        return all(bench.sink.records_of(turn.turn_id, names.RECORD_DONE) for turn in turns)

    try:
        bench.budget.wait_for(arrived, bench.options.patience_s, "the records")
    except Failed:
        _expect_heard(bench)
        missing = sum(1 for turn in turns if not bench.sink.records_of(turn.turn_id, names.RECORD_DONE))
        raise Failed(f"{missing} of {len(turns)} ended turns have no {names.RECORD_DONE!r} record") from None
    for turn in turns:
        found = bench.sink.records_of(turn.turn_id, names.RECORD_DONE)
        turn.expect(len(found) == 1, f"{len(found)} different records for one terminal")
        turn.expect(found[0].trace_id == turn.ack.get("traceId"), "the record names another trace than ack")
    early = bench.sink.records_of(running.turn_id, names.RECORD_DONE)
    running.expect(not early, "a turn that runs has a record already")


@case(
    "V80",
    "content is absent from telemetry unless capture is on",
    rule="telemetry 2: message content is off unless capture_content is on",
    why="Prompts hold secrets; telemetry is read by many and kept for long.",
    needs=_TELEMETRY,
)
def no_content(bench: Bench) -> None:
    """A word of the prompt and a word of the answer are looked for in all that was exported."""
    asked, answered = f"asked{secrets.token_hex(8)}", f"answered{secrets.token_hex(8)}"
    turn = bench.ask(f"say={answered}%20it%20is., end", message=f"What is {asked}?")
    turn.expect(answered in turn.text, "the answer was not streamed")
    spans_of(bench, turn)
    bench.budget.wait_for(
        lambda: bench.sink.records_of(turn.turn_id, names.RECORD_DONE),
        bench.options.patience_s,
        f"the {names.RECORD_DONE!r} record",
    )
    for word, what in ((asked, "the prompt"), (answered, "the answer")):
        turn.expect(not bench.sink.holds(word), f"a word of {what} stands in the telemetry")
