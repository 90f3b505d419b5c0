"""The embedded provider: answers from evidence, at a pace, and fails where it is told to."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastword.errors import SettingsError
from lastword.events import ToolOutcome
from service.providers.compose import compose, content_words, sentences_of
from service.providers.extractive import BRIEF, THOROUGH, ExtractiveProvider
from service.providers.faults import Fault, FaultName, FaultPlan, parse_fault, parse_faults
from service.providers.port import (
    AssistantText,
    Ended,
    Evidence,
    ModelRequest,
    Passage,
    TextDelta,
    ToolResult,
    ToolSpec,
    ToolUse,
    UserText,
)
from service.tools.registry import ToolContext
from service.turn.failures import AttemptFailed, FailureKind

PARTIAL = Passage(
    url="https://d.example/partial",
    title="Partial streams",
    text="# Heading\n\nA stream is partial when it was cut after text. Nothing is retried then.\n\n| a | b |\n|---|---|\n\n```\ncode of a stream. Not prose.\n```\n\n- The provider may have reset the stream's connection.\n- See [the docs](x) for more about streams.\n",
)
RETRY = Passage(
    url="https://d.example/retry", title="Retries", text="Before any text a stream is tried again. Backoff doubles each time."
)
SEARCH = ToolSpec(name="search_knowledge", description="", input_schema={})
CALCULATE = ToolSpec(name="calculate", description="", input_schema={})


def request(question="Why is my stream partial?", **fields):
    defaults = {
        "model": THOROUGH,
        "system": "",
        "transcript": (UserText(question),),
        "passages": (PARTIAL, RETRY),
        "turn_id": "t",
    }
    return ModelRequest(**(defaults | fields))


def run(req, faults=None, wait=None):
    provider = ExtractiveProvider(pace_ms=0, faults=faults or FaultPlan({}), seed=1, **({"wait": wait} if wait else {}))
    return list(provider.start(req))


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_answer_is_made_of_whole_sentences_of_the_evidence():
    """Prose only: no heading, table, code or list mark; each sentence with the number of its source."""
    events = run(request())
    text = text_of(events)
    assert "A stream is partial when it was cut after text. [1]" in text
    assert "See the docs for more about streams. [1]" in text
    assert not any(mark in text for mark in ("#", "|", "`", "- ", "Heading", "code of"))
    assert [event.url for event in events if isinstance(event, Evidence)] == [PARTIAL.url, RETRY.url]
    assert (events[-1].stop_reason, events[-1].usage.complete) == ("end_turn", True)


def test_brief_model_is_brief():
    """The cheaper model says less."""
    assert len(text_of(run(request(model=BRIEF)))) < len(text_of(run(request())))


def test_without_evidence_it_says_so():
    """Nothing is invented."""
    text = text_of(run(request("xyzzy plugh", passages=())))
    assert text == "I found nothing about xyzzy plugh in the indexed documents."


def test_tool_is_asked_first_and_its_passages_are_evidence():
    """With a search tool it asks once, with the question's words, and answers from what came."""
    use = next(event for event in run(request(passages=(), tools=(SEARCH,))) if isinstance(event, ToolUse))
    assert (use.name, use.input) == ("search_knowledge", {"query": "stream partial"})
    result = ToolResult(tool_use_id=use.id, name=use.name, text="", passages=(PARTIAL,))
    answered = run(request(passages=(), tools=(SEARCH,), transcript=(UserText("Why is my stream partial?"), result)))
    assert "partial when it was cut" in text_of(answered)


def test_arithmetic_goes_to_the_calculator():
    """A sum is calculated, not searched."""
    use = next(event for event in run(request("What is 3 * (4 + 5)?", tools=(SEARCH, CALCULATE))) if isinstance(event, ToolUse))
    assert (use.name, use.input) == ("calculate", {"expression": "3 * (4 + 5)"})


def test_short_follow_up_is_about_the_question_before():
    """'And why?' takes its subject from what was asked before."""
    transcript = (UserText("Why is my stream partial?"), AssistantText("Because."), UserText("And why?"))
    assert "partial when it was cut" in text_of(run(request(transcript=transcript)))


def test_length_is_aimed_at():
    """A wished length adds sentences, within what the evidence has."""
    short, long = (text_of(run(request(metadata={"answer_tokens": tokens}))) for tokens in ("5", "500"))
    assert len(short) < len(long)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("overloaded_before_text", FailureKind.OVERLOADED),
        ("error_before_text", FailureKind.SERVER_ERROR),
        ("cut_after_text", FailureKind.NETWORK),
    ],
)
def test_fault_breaks_the_call(name, kind):
    """Each named fault is the failure that it is named for."""
    with pytest.raises(AttemptFailed) as caught:
        run(request(metadata={"fault": name}))
    assert caught.value.kind is kind


@pytest.mark.parametrize(("name", "stop_reason"), [("truncated", "max_tokens"), ("refusal", "refusal")])
def test_fault_ends_the_call_by_its_word(name, stop_reason):
    """Truncation and refusal are the provider's own words, not errors."""
    events = run(request(metadata={"fault": name}))
    assert isinstance(events[-1], Ended)
    assert events[-1].stop_reason == stop_reason


def test_stall_lasts_until_the_call_is_aborted():
    """Silence after some text, which an abort from another thread ends at once."""
    call = ExtractiveProvider(pace_ms=0, faults=FaultPlan({})).start(request(metadata={"fault": "stall"}))
    pieces = []

    def read():
        with pytest.raises(AttemptFailed):
            pieces.extend(iter(call))

    thread = threading.Thread(target=read)
    thread.start()
    call.abort()
    thread.join(5)
    assert not thread.is_alive()


def test_slow_first_token_waits_once():
    """The pause comes before the first token, and its length is the injected wait's business."""
    waits = []

    def wait(_event, seconds):
        waits.append(seconds)
        return False

    run(request(metadata={"fault": "slow_first_token"}), wait=wait)
    assert waits == [4.0]


def test_fault_strikes_as_many_tries_as_it_says():
    """Once by default where a retry should succeed; `always`, or a number."""
    once, always, twice = (parse_fault(f"overloaded_before_text{extent}") for extent in ("", ":always", ":2"))
    assert [fault.strikes(n) for fault in (once, always, twice) for n in (1, 2, 3)] == [True, False, False] + [True] * 3 + [
        True,
        True,
        False,
    ]


def test_plan_draws_once_a_turn_and_repeats_by_its_seed():
    """All calls of a turn see one fault; the same seed draws the same run; the rate holds."""
    plans = [parse_faults("cut_after_text=0.3", seed=5) for _ in range(2)]
    drawn = [[plan.fault_for(f"t{n}", {}) for n in range(500)] for plan in plans]
    assert drawn[0] == drawn[1] == [plans[0].fault_for(f"t{n}", {}) for n in range(500)]
    assert 100 < sum(fault is not None for fault in drawn[0]) < 200


@pytest.mark.parametrize("text", ["explode=0.1", "stall", "stall=2", "stall=x", "stall=0.6,refusal=0.6", "stall:never=0.1"])
def test_wrong_plan_is_refused(text):
    """Unknown names, shares out of range, sums over one."""
    with pytest.raises(SettingsError):
        parse_faults(text)


def test_request_asks_for_a_fault_only_where_that_is_allowed():
    """Metadata that names a fault is obeyed where the setting says so, and is free text elsewhere."""
    wish = {"fault": "stall"}
    assert FaultPlan({}).fault_for("t", wish) == Fault(FaultName.STALL)
    assert FaultPlan({}, by_request=False).fault_for("t", wish) is None
    assert FaultPlan({}).fault_for("t", {"fault": "what ever"}) is None


def test_tool_faults_force_the_outcome():
    """The registry's hook: empty results and time-outs, and nothing for other faults."""

    def context(fault):
        return ToolContext(cancelled=threading.Event(), deadline_ns=0, search=lambda *_: (), metadata={"fault": fault})

    plan = FaultPlan({})
    assert plan.before_tool("x", context("empty_tool_result")) is ToolOutcome.EMPTY
    assert plan.before_tool("x", context("tool_timeout")) is ToolOutcome.TIMEOUT
    assert plan.before_tool("x", context("refusal")) is None


@given(st.text(max_size=400), st.text(max_size=60))
def test_any_text_composes_without_breaking(text, question):
    """Whatever the documents hold: whole sentences or nothing."""
    passages = (Passage(url="u", title="t", text=text),)
    for paragraph in compose(question, passages, sentences=3):
        assert all(sentence.text[-1] in ".!?" for sentence in paragraph)
    assert all(isinstance(word, str) for word in content_words(question) + sentences_of(text))
