"""The anthropic provider over real HTTP, against a server that speaks the Messages streaming protocol."""

import contextlib
import importlib
import json
import pkgutil
import socket
import ssl
import threading
import time

import anthropic
import h11
import httpcore2
import httpx2
import pytest

from lastword.errors import SettingsError
from lastword.events import CompletionStatus, Reason, Usage
from lastword.grammar import TurnGrammar
from service.providers.anthropic_provider import AnthropicProvider, kind_of_class
from service.providers.port import (
    AssistantBlocks,
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
from service.tools.builtins import default_registry
from service.turn.failures import AttemptFailed, FailureKind
from service.turn.policy import TRANSIENT, Budget, Closed, Decision, decide
from tests.support.fake_anthropic import SOURCE, WEB, WORDS, FakeAnthropic
from tests.support.scripted import PASSAGES, Scene, events_of

KEY = "sk-ant-test-secret"
TEXT = "".join(WORDS)
SEARCH = ToolSpec(
    name="search_knowledge", description="d", input_schema={"type": "object", "properties": {"query": {"type": "string"}}}
)


@pytest.fixture(scope="module")
def server():
    with FakeAnthropic() as fake:
        yield fake


@pytest.fixture
def provider(server):
    server.forget()
    made = AnthropicProvider(api_key=KEY, base_url=server.url)
    yield made
    made.close()


def request(script, *later, **fields):
    return ModelRequest(
        model="claude-test", system="Be brief.", transcript=(UserText(f"why? [[script:{script}]]"), *later), **fields
    )


def run(provider, script, *later, **fields):
    return list(provider.start(request(script, *later, **fields)))


def failure(provider, script):
    with pytest.raises(AttemptFailed) as caught:
        run(provider, script)
    assert KEY not in str(caught.value)
    assert "sk-ant-000" not in str(caught.value)
    return caught.value


def text_of(events):
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def test_text_and_usage_arrive(provider, server):
    """Text, the provider's ids, and the cumulative usage with cache tokens; the SDK adds no tracing header."""
    started, *_, ended = events = run(provider, "text, ping, end")
    assert (started.response_id, started.model, started.request_id) == ("msg_fake", "claude-fake", "req_fake")
    assert text_of(events) == TEXT
    assert ended == Ended(
        stop_reason="end_turn",
        usage=Usage(input_tokens=11, output_tokens=7, cache_read_tokens=3, cache_write_tokens=2),
        blocks=({"type": "text", "text": TEXT},),
    )
    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
    assert "traceparent" not in server.calls[0].headers


def test_tool_use_is_assembled_and_its_result_sent_back(provider, server):
    """Input that comes in pieces is one object; the next call carries the use unchanged, and the result with its evidence."""
    events = run(provider, "thinking, tool | text, end", tools=(SEARCH,))
    use, ended = events[-2:]
    assert use == ToolUse(id="toolu_1", name="search_knowledge", input={"query": "partial streams"})
    assert [block["type"] for block in ended.blocks] == ["thinking", "tool_use"]
    assert ended.blocks[0] == {"type": "thinking", "thinking": "hm", "signature": "sig"}
    passage = Passage(url="https://p.example/", title="P", text="t")
    result = ToolResult(tool_use_id="toolu_1", name="search_knowledge", text="t", passages=(passage,))
    assert text_of(run(provider, "thinking, tool | text, end", AssistantBlocks(ended.blocks), result, tools=(SEARCH,))) == TEXT
    user, assistant, back = server.calls[1].body["messages"]
    assert [user["role"], assistant["role"], back["role"]] == ["user", "assistant", "user"]
    assert assistant["content"] == list(ended.blocks)
    assert back["content"][0]["content"][0]["source"] == "https://p.example/"
    assert server.calls[1].body["tools"][0]["name"] == "search_knowledge"


def test_evidence_is_sent_as_search_results_and_comes_back_as_citations(provider, server):
    """Passages go in with citations on; citations and web results come out as sources."""
    events = run(provider, "web, text, cite, end", passages=PASSAGES)
    assert [event.url for event in events if isinstance(event, Evidence)] == [WEB, SOURCE]
    content = server.calls[0].body["messages"][0]["content"]
    assert [block["type"] for block in content] == ["search_result", "search_result", "text"]
    assert content[0]["citations"] == {"enabled": True}


@pytest.mark.parametrize(
    ("script", "kind", "error_type"),
    [
        ("overload", FailureKind.OVERLOADED, "overloaded_error"),
        ("text, overload", FailureKind.OVERLOADED, "overloaded_error"),
        ("text, cut", FailureKind.TRUNCATED, "stream_truncated"),
        ("cut", FailureKind.TRUNCATED, "stream_truncated"),
        ("text, reset", FailureKind.NETWORK, None),
        ("text, corrupt", FailureKind.CORRUPT, "JSONDecodeError"),
        ("529", FailureKind.OVERLOADED, "overloaded_error"),
        ("503", FailureKind.OVERLOADED, "api_error"),
        ("error=rate_limit_error", FailureKind.RATE_LIMITED, "rate_limit_error"),
        ("error=api_error", FailureKind.SERVER_ERROR, "api_error"),
        ("error=what_is_this", FailureKind.SERVER_ERROR, "what_is_this"),
        ("error=sk-ant-000", FailureKind.SERVER_ERROR, "APIStatusError"),
        ("error=invalid_request_error", FailureKind.BAD_REQUEST, "invalid_request_error"),
        ("text, shapeless", FailureKind.CORRUPT, "unreadable_event"),
        ("halftool, stop=tool_use", FailureKind.CORRUPT, "unreadable_input"),
        ("500", FailureKind.SERVER_ERROR, "api_error"),
        ("429=7", FailureKind.RATE_LIMITED, "rate_limit_error"),
        ("400", FailureKind.BAD_REQUEST, "invalid_request_error"),
        ("413", FailureKind.BAD_REQUEST, "request_too_large"),
        ("401", FailureKind.BAD_REQUEST, "authentication_error"),
    ],
)
def test_failure_of_the_provider_is_known_by_kind(provider, server, script, kind, error_type):
    """Every way in which a stream breaks has its kind; the SDK does not retry by itself."""
    failed = failure(provider, script)
    assert failed.kind is kind
    assert error_type in (None, failed.error_type)
    assert len(server.calls) == 1


def test_retry_after_is_read_as_seconds_and_as_a_date(provider):
    """Both forms of the header are understood."""
    assert failure(provider, "429=7").retry_after_s == 7
    assert failure(provider, "429=inf").retry_after_s is None
    assert failure(provider, "429=date").retry_after_s > 1_000_000


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded", "refusal"])
def test_tool_input_that_a_limit_cut_is_no_failure(provider, reason):
    """The model was stopped in the middle of asking for a tool: its own word for that counts, and the tool is not asked for."""
    events = run(provider, f"text, halftool, stop={reason}")
    assert events[-1].stop_reason == reason
    assert not any(isinstance(event, ToolUse) for event in events)


@pytest.mark.parametrize("after", ["reset", "hang", "overload"])
def test_what_follows_the_end_of_the_message_does_not_matter(provider, after):
    """`message_stop` has been read: a connection that breaks, or stays open, behind it cannot make the answer partial."""
    events = run(provider, f"text, open_end, {after}", read_timeout_s=5.0)
    assert text_of(events) == TEXT
    assert isinstance(events[-1], Ended)


def test_slow_first_token_is_waited_for(provider):
    """A pause before the text is no failure of its own: time-outs are the caller's business."""
    assert text_of(run(provider, "slow=0.05, text, end")) == TEXT


def test_key_that_no_header_can_carry_is_refused_unshown(server):
    """The HTTP library would put it into its error, and so into a log; a line break at its end is only cut off."""
    with pytest.raises(SettingsError) as caught:
        AnthropicProvider(api_key="sk-ant\nsecret")
    assert "secret" not in str(caught.value)
    provider = AnthropicProvider(api_key=f"{KEY}\n", base_url=server.url)
    assert text_of(run(provider, "text, end")) == TEXT
    assert server.calls[-1].headers["authorization"] == f"Bearer {KEY}"
    provider.close()


def test_nobody_listening_is_a_network_failure():
    """A refused connection is one more failure that the policy knows."""
    provider = AnthropicProvider(api_key=KEY, base_url="http://127.0.0.1:1")
    assert failure(provider, "text").kind is FailureKind.NETWORK
    provider.close()


@pytest.mark.parametrize("script", ["silent", "hang", "text, hang", "text, pings"])
def test_abort_wakes_a_blocked_reader(provider, server, script):
    """Silent or pinging, before the headers, before or after text: an abort from another thread ends the call and its socket long before a time-out."""
    call = provider.start(request(script))
    timer = threading.Timer(0.2, call.abort)
    timer.start()
    start = time.monotonic()
    with pytest.raises(AttemptFailed):
        list(call)
    assert time.monotonic() - start < 5
    timer.join()
    end = time.monotonic() + 10
    while not server.ended and time.monotonic() < end:
        time.sleep(0.01)
    assert server.ended


def test_abort_before_the_call_begins_ends_it(provider, server):
    """A call that was aborted before it was iterated sends nothing."""
    call = provider.start(request("text, end"))
    call.abort()
    with pytest.raises(AttemptFailed):
        list(call)
    assert server.calls == []


UNUSED = ("anthropic.lib.", "httpx2.websockets.")
"""Parts of the libraries that the provider never calls: the SDK's tool runner and its sign-in, web sockets."""


def classes_below(cls):
    """Every subclass, near or far."""
    for child in cls.__subclasses__():
        yield child
        yield from classes_below(child)


def exceptions_of(library):
    """The exception classes of a library, those of its private modules too. `anthropic.types` holds data alone and takes seconds to import."""
    for module in pkgutil.walk_packages(library.__path__, f"{library.__name__}."):
        unwanted = (".types.", ".__main__", ".tests", "._cli", "._main", *UNUSED)
        if not any(part in f"{module.name}." for part in unwanted):
            with contextlib.suppress(ImportError):  # a module for an extra that is not installed raises nothing in a turn
                importlib.import_module(module.name)
    return {
        cls
        for cls in classes_below(Exception)
        if cls.__module__.split(".")[0] == library.__name__
        and not cls.__module__.startswith(UNUSED)
        and not issubclass(cls, Warning)
    }


@pytest.mark.parametrize(
    ("library", "at_least"),
    [(anthropic, 15), (httpx2, 20), (httpcore2, 12), (h11, 3)],
    ids=["anthropic", "httpx2", "httpcore2", "h11"],
)
def test_every_exception_of_the_libraries_has_an_outcome(library, at_least):
    """An exception class without a kind, or whose kind leads nowhere, fails the build, not a turn."""
    classes = exceptions_of(library)
    assert len(classes) >= at_least
    assert sorted(f"{cls.__module__}.{cls.__name__}" for cls in classes if kind_of_class(cls) is None) == []
    for cls in classes:
        check_outcome(kind_of_class(cls))


@pytest.mark.parametrize(
    ("cls", "kind"),
    [
        (json.JSONDecodeError, FailureKind.CORRUPT),
        (UnicodeDecodeError, FailureKind.CORRUPT),
        (ssl.SSLError, FailureKind.NETWORK),
        (ssl.SSLCertVerificationError, FailureKind.NETWORK),
        (socket.gaierror, FailureKind.NETWORK),
        (TimeoutError, FailureKind.NETWORK),
        (ConnectionResetError, FailureKind.NETWORK),
        (BrokenPipeError, FailureKind.NETWORK),
    ],
)
def test_every_exception_below_the_libraries_has_an_outcome(cls, kind):
    """What the standard library raises through the SDK is known too."""
    assert kind_of_class(cls) is kind
    check_outcome(kind)


def check_outcome(kind):
    """A failure of this kind is tried again or ends the turn; it ends in the safe answer once nothing is left, and keeps what was shown."""

    def step(*, attempts_left, fallback, visible=False):
        budget = Budget(attempts_left=attempts_left, left_ms=1000, wait_ms=10)
        return decide(kind, closed=Closed(visible=visible), budget=budget, cheaper_tier=False, fallback=fallback)

    assert step(attempts_left=1, fallback=False) is (Decision.RETRY if kind in TRANSIENT else Decision.FAIL)
    assert step(attempts_left=0, fallback=False) is Decision.FAIL
    assert step(attempts_left=0, fallback=True) is Decision.FALL_BACK
    assert step(attempts_left=1, fallback=True, visible=True) is Decision.KEEP_PARTIAL


# --- whole turns


@pytest.fixture
def scene(tmp_path, provider):
    scene = Scene(tmp_path, default_registry(time.monotonic_ns), real_time=True)
    scene.provider = provider
    yield scene
    scene.close()


@pytest.mark.parametrize(
    ("script", "status", "reason", "attempts"),
    [
        ("text, end", CompletionStatus.SUCCESS, None, 1),
        ("overload | text, end", CompletionStatus.SUCCESS, None, 2),
        ("cut | text, end", CompletionStatus.SUCCESS, None, 2),
        ("529 | 529 | text, end", CompletionStatus.DEGRADED, Reason.PROVIDER_OVERLOADED, 3),
        ("500", CompletionStatus.FALLBACK, Reason.PROVIDER_ERROR, 4),
        ("429=3600", CompletionStatus.FALLBACK, Reason.PROVIDER_OVERLOADED, 2),
        ("text, overload", CompletionStatus.INTERRUPTED, Reason.PROVIDER_OVERLOADED, 1),
        ("text, cut", CompletionStatus.INTERRUPTED, Reason.PROVIDER_TRUNCATED, 1),
        ("text, reset", CompletionStatus.INTERRUPTED, Reason.PROVIDER_ERROR, 1),
        ("text, stop=max_tokens", CompletionStatus.TRUNCATED, Reason.OUTPUT_LIMIT, 1),
        ("stop=refusal", CompletionStatus.REFUSED, Reason.REFUSAL, 1),
        ("text, stop=refusal", CompletionStatus.REFUSED, Reason.REFUSAL, 1),
        ("text, stop=null", CompletionStatus.INTERRUPTED, Reason.PROVIDER_TRUNCATED, 1),
        ("web, stop=pause_turn | text, end", CompletionStatus.SUCCESS, None, 1),
        ("tool | text, cite, end", CompletionStatus.SUCCESS, None, 1),
    ],
)
def test_turn_over_the_real_sdk_ends_as_the_contract_says(scene, script, status, reason, attempts):
    """The same policy as with the embedded provider, through Anthropic's SDK and real sockets."""
    turn = scene.run(message=f"why? [[script:{script}]]")
    grammar = TurnGrammar()
    for event in events_of(turn):
        grammar.feed(event)
    done = grammar.terminal.metadata
    assert (done.completion_status, done.reason, len(done.attempts)) == (status, reason, attempts)
    assert b"sk-ant" not in turn.log.frames_bytes


def test_turn_that_only_pings_is_a_stall(scene):
    """Pings keep the connection open and count as nothing: the watchdog counts content."""
    scene.route = type(scene.route)(
        **{name: getattr(scene.route, name) for name in scene.route.__struct_fields__} | {"stall_timeout_ms": 200}
    )
    turn = scene.run(message="why? [[script:text, pings]]")
    assert events_of(turn)[-1].metadata.reason is Reason.STALL_TIMEOUT


def test_cited_source_is_a_source_of_the_turn(scene):
    """A provider's citation is structured evidence, kept with its origin."""
    done = events_of(scene.run(message="why? [[script:tool | text, cite, end]]"))[-1].metadata
    assert SOURCE in done.sources
    assert done.tools_with_results == ("search_knowledge",)
