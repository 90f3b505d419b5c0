"""One turn through the real machine, policy, log and store, with a scripted provider."""

import threading

import msgspec
import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from lastword.events import Ack, Chunk, CompletionStatus, Done, Error, Reason, ToolOutcome, TurnAccepted, TurnDone, Usage
from lastword.grammar import TurnGrammar
from lastword.states import State
from lastword.wire import decode_stream
from service.providers.port import Ended, Evidence, Passage, Started, TextDelta, ToolResult, ToolUse, Working
from service.run.facts import turn_facts
from service.spans import build_spans
from service.tools.registry import Output, ToolRegistry, tool
from service.turn.failures import AttemptFailed, FailureKind
from service.turn.policy import Decision
from tests.support.scripted import PASSAGES, Scene, events_of, hang

USAGE = Usage(input_tokens=10, output_tokens=5)
END = Ended(stop_reason="end_turn", usage=USAGE)
OVERLOADED = AttemptFailed(FailureKind.OVERLOADED)
CUT = AttemptFailed(FailureKind.NETWORK, "peer reset: sk-secret", error_type="ReadError")
ANSWER = [TextDelta("A stream is partial [1] "), TextDelta("when it was cut."), END]

SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}}


@tool(name="lookup", description="d", input_schema=SCHEMA, usable=lambda output: bool(output.passages))
def lookup(arguments, context):
    if arguments.get("query") == "nothing":
        return Output(text="")
    return Output(text="found", passages=(Passage(url="https://tool.example/x", title="X", text="x"),))


@tool(name="mail", description="d", input_schema=SCHEMA, side_effects=True)
def mail(arguments, context):
    return Output(text="sent")


def make_scene(tmp_path, **options):
    scene = Scene(tmp_path, ToolRegistry([lookup, mail], lambda: 0), **options)
    scene.tools = ToolRegistry([lookup, mail], scene.clock.mono_ns)
    return scene


@pytest.fixture
def scene(tmp_path):
    scene = make_scene(tmp_path)
    yield scene
    scene.close()


@pytest.fixture
def live(tmp_path):
    scene = make_scene(tmp_path, real_time=True)
    yield scene
    scene.close()


def outcome(turn):
    """Status, partial, reason and the outcomes of the attempts, after the grammar has checked every event."""
    grammar = TurnGrammar()
    for event in events_of(turn):
        grammar.feed(event)
    done = grammar.terminal.metadata
    return (done.completion_status, done.partial, done.reason, [attempt.outcome for attempt in done.attempts])


def test_whole_turn_streams_and_is_done(scene):
    """Ack, cleaned chunks, done: with the evidence of retrieval and of the provider."""
    turn = scene.run([Started(response_id="r"), Evidence(url="https://docs.example/retry#now"), *ANSWER])
    ack, first, second, done = events_of(turn)
    assert isinstance(ack, Ack)
    assert [first.text, second.text] == ["A stream is partial", " when it was cut."]
    assert isinstance(done, Done)
    assert done.metadata.answer == "A stream is partial when it was cut."
    assert done.metadata.answer_matches_stream
    assert done.metadata.sources == tuple(passage.url for passage in PASSAGES)
    assert [origin.value for origin in done.metadata.source_details[1].origins] == ["retrieval", "payload"]
    assert outcome(turn) == (CompletionStatus.SUCCESS, False, None, ["ok"])


def test_failure_before_text_is_retried(scene):
    """An overload before anything was visible is tried again, and the turn is a success."""
    turn = scene.run([OVERLOADED], ANSWER)
    assert outcome(turn) == (CompletionStatus.SUCCESS, False, None, ["provider_overloaded", "ok"])


def test_spent_tier_degrades_and_says_why(scene):
    """Two failures of the tier: the cheaper one answers."""
    turn = scene.run([OVERLOADED], [OVERLOADED], ANSWER)
    done = events_of(turn)[-1].metadata
    assert outcome(turn)[0] is CompletionStatus.DEGRADED
    assert (done.model_tier, done.model, done.degraded, done.reason) == ("fast", "model-f", True, Reason.PROVIDER_OVERLOADED)


def test_all_tiers_spent_fall_back_to_the_safe_answer(scene):
    """When nothing is left, the route's safe answer is shown, whole."""
    turn = scene.run([OVERLOADED], [OVERLOADED], [CUT], [CUT])
    done = events_of(turn)[-1].metadata
    assert outcome(turn)[:3] == (CompletionStatus.FALLBACK, False, Reason.PROVIDER_ERROR)
    assert (done.answer, done.fallback) == ("Please try again.", True)


def test_route_without_safe_answer_ends_in_an_error(scene):
    """No safe answer: an error event that says whether asking again may help, and nothing of what broke."""
    scene.route = msgspec.structs.replace(scene.route, fallback=None)
    turn = scene.run([CUT], [CUT], [CUT], [CUT])
    ack, error = events_of(turn)
    assert isinstance(error, Error)
    assert (error.code, error.retryable) == ("provider_error", True)
    assert b"secret" not in turn.log.frames_bytes


def test_failure_after_text_keeps_the_partial_and_calls_nobody(scene):
    """A cut after visible text: what was shown is kept, and the provider is not called again."""
    turn = scene.run([TextDelta("Half an ans"), CUT], ANSWER)
    assert outcome(turn) == (CompletionStatus.INTERRUPTED, True, Reason.PROVIDER_ERROR, ["provider_error"])
    assert len(scene.provider.requests) == 1
    assert events_of(turn)[-1].metadata.answer == "Half an ans"
    assert scene.store.messages(turn.conversation_id, 9)[-1].partial


@pytest.mark.parametrize(
    ("stop_reason", "status", "reason"),
    [
        ("max_tokens", CompletionStatus.TRUNCATED, Reason.OUTPUT_LIMIT),
        ("model_context_window_exceeded", CompletionStatus.TRUNCATED, Reason.OUTPUT_LIMIT),
        ("refusal", CompletionStatus.REFUSED, Reason.REFUSAL),
        ("from_the_future", CompletionStatus.INTERRUPTED, Reason.PROVIDER_TRUNCATED),
        (None, CompletionStatus.INTERRUPTED, Reason.PROVIDER_TRUNCATED),
    ],
)
def test_stop_reason_after_text_is_never_success(scene, stop_reason, status, reason):
    """Only the provider's own words for an end make a success."""
    turn = scene.run([TextDelta("Some text"), Ended(stop_reason=stop_reason, usage=USAGE)])
    assert outcome(turn)[:3] == (status, True, reason)


def test_empty_answer_is_no_success(scene):
    """A provider that ends its turn without a word is tried again."""
    turn = scene.run([END], ANSWER)
    assert outcome(turn)[3] == ["provider_error", "ok"]


def test_tools_count_only_with_results(scene):
    """A tool that found nothing was used, but has no results."""
    uses = [ToolUse(id="1", name="lookup", input={}), ToolUse(id="2", name="lookup", input={"query": "nothing"})]
    turn = scene.run([*uses, Ended(stop_reason="tool_use", usage=USAGE)], ANSWER)
    done = events_of(turn)[-1].metadata
    assert [call.outcome for call in done.tool_calls] == [ToolOutcome.RESULTS, ToolOutcome.EMPTY]
    assert (done.tools_used, done.tools_with_results) == (("lookup",), ("lookup",))
    assert "https://tool.example/x" in done.sources
    assert done.usage == USAGE + USAGE
    results = [said for said in scene.provider.requests[1].transcript if isinstance(said, ToolResult)]
    assert [(result.tool_use_id, result.text) for result in results] == [("1", "found"), ("2", "Nothing was found.")]


def test_tool_with_side_effects_closes_the_window(scene):
    """After a tool that changed the world, a failure is not retried although nothing was visible."""
    use = [ToolUse(id="1", name="mail", input={}), Ended(stop_reason="tool_use", usage=USAGE)]
    turn = scene.run(use, [OVERLOADED], ANSWER)
    assert outcome(turn)[0] is CompletionStatus.FALLBACK
    assert len(scene.provider.requests) == 2


def test_endless_tool_use_is_bounded(scene):
    """A model that never stops asking for tools is ended by the route's limit."""
    use = [ToolUse(id="1", name="lookup", input={}), Ended(stop_reason="tool_use", usage=USAGE)]
    turn = scene.run(*[use] * 20)
    assert outcome(turn)[0] is CompletionStatus.TRUNCATED
    assert len(scene.provider.requests) == scene.route.max_model_calls


def test_silent_provider_after_text_is_a_stall(live):
    """Silence longer than the route's stall time ends the turn, with what was shown."""
    live.route = msgspec.structs.replace(live.route, stall_timeout_ms=50)
    turn = live.run([TextDelta("Half"), hang])
    assert outcome(turn) == (CompletionStatus.INTERRUPTED, True, Reason.STALL_TIMEOUT, ["stall_timeout"])


def nap(call):
    """A step: the provider takes a while, or is aborted."""
    call.aborted.wait(0.25)


def test_model_that_works_unseen_is_no_stall(live):
    """Thinking and the input of a tool are content: they may take longer in all than the stall time."""
    live.route = msgspec.structs.replace(live.route, stall_timeout_ms=1000)
    turn = live.run([TextDelta("Half "), *[nap, Working()] * 6, TextDelta("and whole."), END])
    assert outcome(turn) == (CompletionStatus.SUCCESS, False, None, ["ok"])


def test_thinking_does_not_prolong_the_wait_for_the_first_text(live):
    """A person sees nothing of it: the time-out of the first text counts from the attempt's start."""
    live.route = msgspec.structs.replace(live.route, first_token_timeout_ms=1000)
    turn = live.run([*[nap, Working()] * 6, *ANSWER], ANSWER)
    assert outcome(turn) == (CompletionStatus.SUCCESS, False, None, ["first_token_timeout", "ok"])


def test_silent_provider_before_text_is_retried(live):
    """Silence before the first token is a time-out of its own, and is tried again."""
    live.route = msgspec.structs.replace(live.route, first_token_timeout_ms=300)
    turn = live.run([hang], ANSWER)
    assert outcome(turn) == (CompletionStatus.SUCCESS, False, None, ["first_token_timeout", "ok"])


def test_deadline_before_text_shows_the_safe_answer(live):
    """The turn's own deadline leaves no time for another try."""
    turn = live.run([hang], turn=live.turn(deadline_ms=60))
    assert outcome(turn)[:3] == (CompletionStatus.FALLBACK, False, Reason.DEADLINE)


@pytest.mark.parametrize(("shown", "partial"), [([], False), ([TextDelta("Half")], True)])
def test_cancel_wakes_a_blocked_provider(live, shown, partial):
    """Cancel ends a turn that waits for its provider, with what was shown, perhaps nothing."""
    turn = live.turn()
    cancel = threading.Timer(0.05, lambda: turn.control.stop(FailureKind.CANCELLED))

    def hang_and_be_cancelled(call):
        cancel.start()  # not before: whatever was to be shown is shown by now, however slow the machine is
        call.hang()

    live.run([*shown, hang_and_be_cancelled], turn=turn)
    cancel.join()
    assert outcome(turn)[:3] == (CompletionStatus.CANCELLED, partial, Reason.CLIENT_CANCELLED)


def test_log_limit_truncates_the_turn(scene):
    """An answer that outgrows the log is truncated, and still has its terminal."""
    scene.settings = msgspec.structs.replace(scene.settings, max_log_bytes=2000)
    turn = scene.run([*[TextDelta("words and ") for _ in range(200)], END])
    assert outcome(turn)[:3] == (CompletionStatus.TRUNCATED, True, Reason.OUTPUT_LIMIT)
    assert events_of(turn)[-1].metadata.answer_matches_stream


def test_retrieval_that_fails_is_seen_and_survived(scene):
    """Without its index the service answers without evidence, and the span says what broke."""
    scene.search.error = OSError("gone")
    turn = scene.run(ANSWER)
    assert outcome(turn)[0] is CompletionStatus.SUCCESS
    tree = build_spans(turn.machine, turn_facts(turn, "scripted"))
    assert next(span for span in tree.children if span.name == "retrieval knowledge").error_type == "OSError"


def test_bug_after_text_keeps_the_partial(scene):
    """Even where our own code breaks, a client that saw text gets a done, not an error."""

    def bug(call):
        raise ZeroDivisionError

    turn = scene.run([TextDelta("Half"), bug])
    assert outcome(turn)[:3] == (CompletionStatus.INTERRUPTED, True, Reason.INTERNAL_ERROR)


def test_records_of_a_turn_carry_no_content(scene):
    """The outbox holds accepted and done; neither question nor answer leaves the service."""
    turn = scene.run(ANSWER)
    accepted, done = scene.store.pending_records(10)
    assert (accepted.event_name, done.event_name) == ("turn.accepted", "turn.done")
    assert msgspec.json.decode(accepted.body, type=TurnAccepted).turn_id == turn.turn_id
    record = msgspec.json.decode(done.body, type=TurnDone)
    terminal = events_of(turn)[-1].metadata
    assert record.done == msgspec.structs.replace(terminal, answer="")
    assert (record.answer_chars, record.content) == (len(terminal.answer), None)
    assert "partial?" not in accepted.body + done.body
    assert "was cut" not in accepted.body + done.body


def test_content_is_recorded_where_capture_is_on(scene):
    """With capture on, prompt and answer are recorded, bounded in length."""
    scene.settings = msgspec.structs.replace(scene.settings, capture_content=True, max_content_chars=8)
    scene.run(ANSWER)
    record = msgspec.json.decode(scene.store.pending_records(10)[1].body, type=TurnDone)
    assert (record.content.prompt, record.content.answer) == ("why is m", "A stream")


def test_rejected_question_is_no_turn(scene):
    """An empty message is an HTTP problem: no event, no row, no record."""
    turn = scene.run(message="  ")
    assert (turn.rejected.status, turn.log.last_seq, turn.stored) == (400, 0, False)
    assert scene.store.pending_records(10) == []


def test_conversation_reaches_the_model(scene):
    """The second question of a conversation comes with the first and its canonical answer."""
    first = scene.run(ANSWER)
    scene.run(ANSWER, message="and then?", conversation_id=first.conversation_id)
    said = scene.provider.requests[-1].transcript
    assert [item.text for item in said] == ["why is my stream partial?", "A stream is partial when it was cut.", "and then?"]


def test_stored_log_is_the_log(scene):
    """What the database keeps for replay is byte for byte what went out."""
    turn = scene.run([OVERLOADED], ANSWER)
    assert scene.store.find_log(turn.turn_id) == turn.log.frames_bytes
    assert isinstance(decode_stream(turn.log.frames_bytes)[1], Chunk)


def shape(span, depth=0):
    """A span tree as lines: name, start and end in ms, error."""
    error = f" !{span.error_type}" if span.error_type else ""
    lines = [f"{'  ' * depth}{span.name} {span.start_ns // 1_000_000}-{span.end_ns // 1_000_000}{error}"]
    for child in span.children:
        lines += shape(child, depth + 1)
    return lines


def test_span_tree_of_a_retried_and_cut_turn(scene):
    """The whole tree as a literal: one try overloaded, the second with a tool, cut in mid-text."""
    use = [ToolUse(id="1", name="lookup", input={}), Ended(stop_reason="tool_use", usage=USAGE)]
    turn = scene.run([OVERLOADED], use, [TextDelta("Half"), CUT])
    tree = build_spans(turn.machine, turn_facts(turn, "scripted"))
    assert shape(tree) == SPANS_OF_A_CUT_TURN
    assert [event.name for event in tree.events] == ["retry", "first_visible_chunk"]
    assert tree.attributes["lastword.turn.partial"] is True
    assert all(span.attributes["lastword.turn.id"] == turn.turn_id for span in (tree, *tree.children))


def test_span_times_are_the_stage_timings(scene):
    """A stage's span and its timing are one reading of the clock."""
    turn = scene.run([OVERLOADED], ANSWER)
    timings = events_of(turn)[-1].metadata.stage_timings
    tree = build_spans(turn.machine, turn_facts(turn, "scripted"))
    spans = {span.name: (span.end_ns - span.start_ns) // 1_000_000 for span in tree.children}
    assert spans["turn.stream"] == timings.stream_ms
    assert spans["retrieval knowledge"] == timings.retrieval_ms
    assert spans["turn.finalize"] == timings.finalize_ms
    assert (tree.end_ns - tree.start_ns) // 1_000_000 == timings.total_ms
    assert turn.machine.state is State.DONE


SPANS_OF_A_CUT_TURN = [
    "turn 0-42 !provider_error",
    "  turn.auth 1-2",
    "  turn.precheck 2-3",
    "  turn.context 3-4",
    "  turn.route 4-5",
    "  retrieval knowledge 7-8",
    "  turn.agent_setup 8-9",
    "  turn.attempt 9-15 !overloaded",
    "    chat model-s 13-14 !overloaded",
    "  turn.attempt 18-37 !ReadError",
    "    chat model-s 22-23",
    "    execute_tool lookup 24-28",
    "    chat model-s 31-36 !ReadError",
    "  turn.stream 33-33 !provider_error",
    "  turn.post_process 39-40",
    "  turn.finalize 40-42",
]


def test_log_that_cannot_hold_the_first_chunk_truncates(scene):
    """Even where not one chunk fits, the turn ends as the table says, and the machine never claims that text was shown."""
    scene.settings = msgspec.structs.replace(scene.settings, max_log_bytes=10)
    turn = scene.run(ANSWER)
    assert outcome(turn)[:3] == (CompletionStatus.TRUNCATED, True, Reason.OUTPUT_LIMIT)
    assert (events_of(turn)[-1].metadata.chunk_count, turn.machine.visible) == (0, False)


def test_chat_span_speaks_the_words_of_the_field(scene):
    """The GenAI attributes of one provider call, and when its first text came, as other backends read them."""
    turn = scene.run([Started(response_id="r", model="served"), *ANSWER])
    tree = build_spans(turn.machine, turn_facts(turn, "scripted"))
    (chat,) = next(span for span in tree.children if span.name == "turn.attempt").children
    assert chat.attributes | {"lastword.turn.id": ""} == {
        "lastword.turn.id": "",
        "gen_ai.operation.name": "chat",
        "openinference.span.kind": "LLM",
        "gen_ai.provider.name": "scripted",
        "gen_ai.request.model": "model-s",
        "gen_ai.response.model": "served",
        "gen_ai.response.id": "r",
        "gen_ai.response.finish_reasons": ("end_turn",),
        "gen_ai.response.time_to_first_chunk": 0.001,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.cache_write.input_tokens": 0,
        "gen_ai.conversation.id": turn.conversation_id,
        "langfuse.observation.completion_start_time": "2023-11-14T22:13:20.014000Z",
    }


def away(scene, monkeypatch, error, times, before=lambda: None):
    """The database refuses so many terminals; what happens at each."""
    end, refused = scene.store.end_turn, []

    def refuse(*arguments, **rest):
        if len(refused) < times:
            refused.append(1)
            before()
            raise error
        return end(*arguments, **rest)

    monkeypatch.setattr(scene.store, "end_turn", refuse)
    return refused


def test_turn_waits_for_a_database_that_is_away(scene, monkeypatch):
    """However often it is refused: nobody sees a terminal that is not stored, and there is one."""
    monkeypatch.setattr("service.run.ending._PAUSE_S", 0.001)
    refused = away(scene, monkeypatch, OperationalError("write", {}, Exception("away")), 6)
    turn = scene.run(ANSWER)
    assert len(refused) == 6
    assert turn.log.terminal.metadata.completion_status is CompletionStatus.SUCCESS
    assert scene.store.find_log(turn.turn_id) == turn.log.frames_bytes


def test_shutdown_ends_the_wait_for_a_database(scene, monkeypatch):
    """The stream ends without a terminal, and the turn stays open for the next process."""
    turn = scene.turn()
    error = OperationalError("write", {}, Exception("away"))
    refused = away(scene, monkeypatch, error, 99, before=lambda: turn.control.stop(FailureKind.SHUTDOWN))
    scene.run(ANSWER, turn=turn)
    assert len(refused) == 2
    assert (turn.log.closed, turn.log.terminal) == (True, None)
    assert scene.store.find_turn(turn.turn_id).state == "open"


def test_error_that_stays_is_not_tried_for_ever(scene, monkeypatch):
    """A terminal that the database will never take does not keep a worker."""
    monkeypatch.setattr("service.run.ending._PAUSE_S", 0.001)
    refused = away(scene, monkeypatch, IntegrityError("write", {}, Exception("twice")), 99)
    turn = scene.run(ANSWER)
    assert len(refused) == 3
    assert (turn.log.closed, turn.log.terminal) == (True, None)


def test_failure_that_cannot_be_told_still_ends_the_turn(scene, monkeypatch):
    """A bug on the way to the error event is a bug like any other: the client gets its one terminal."""
    monkeypatch.setattr("service.run.middle.decide", lambda *_, **__: Decision.FAIL)
    turn = scene.run([TextDelta("seen "), TextDelta("text "), CUT])
    assert turn.log.terminal.metadata.completion_status is CompletionStatus.INTERRUPTED
    assert turn.log.terminal.metadata.reason is Reason.INTERNAL_ERROR
