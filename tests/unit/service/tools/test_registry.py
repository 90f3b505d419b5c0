"""Tools within their limits: one verdict each, no call that never returns, no thread beyond the bound."""

import threading
import time

import pytest

from lastword.events import ToolOutcome
from service.providers.port import Passage
from service.tools import registry as module
from service.tools.registry import Output, ToolContext, ToolError, ToolRegistry, tool

SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}}}
PASSAGE = Passage(url="https://a.example/", title="A", text="a")
SECOND_NS = 1_000_000_000


def make(run, **options):
    """A tool of a function of its input and context."""
    return tool(**{"name": "lookup", "description": "d", "input_schema": SCHEMA, **options})(run)


def make_context(**options):
    deadline_ns = time.monotonic_ns() + 30 * SECOND_NS
    return ToolContext(**{"cancelled": threading.Event(), "deadline_ns": deadline_ns, "search": lambda *_: (), **options})


@pytest.fixture
def registry_of():
    """Makes registries, and makes sure that none leaves a thread behind."""
    made = []

    def build(*tools, **options):
        made.append(ToolRegistry(tools, options.pop("mono_ns", time.monotonic_ns), **options))
        return made[-1]

    yield build
    assert [one.close(10) for one in made] == [0] * len(made)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tool-")]


@pytest.fixture
def gate():
    """Holds tools that do not look at their event; opened at the end."""
    event = threading.Event()
    yield event
    event.set()


def stuck_on(gate):
    def run(arguments, context):
        gate.wait(30)
        return Output(text="late")

    return run


@pytest.mark.parametrize(
    ("output", "usable", "outcome"),
    [
        (Output(text="found", passages=(PASSAGE,)), lambda o: bool(o.passages), ToolOutcome.RESULTS),
        (Output(text="found nothing"), lambda o: bool(o.passages), ToolOutcome.EMPTY),
        (Output(text="12"), None, ToolOutcome.RESULTS),
        (Output(text=" \n"), None, ToolOutcome.EMPTY),
    ],
)
def test_outcome_is_the_verdict_of_usable(registry_of, output, usable, outcome):
    """A result is evidence where the tool's own function says so; by default where there is text."""
    one = make(lambda *_: output, **({"usable": usable} if usable else {}))
    run = registry_of(one).run("lookup", {}, make_context())
    assert (run.outcome, run.error_type, run.passages) == (outcome, None, output.passages)
    assert run.text.strip()


def test_error_of_a_tool_is_told_to_the_model(registry_of):
    """What the tool says goes to the model as it is."""

    def refuse(arguments, context):
        raise ToolError("There is no such city.")

    run = registry_of(make(refuse)).run("lookup", {}, make_context())
    assert (run.outcome, run.text, run.error_type) == (ToolOutcome.ERROR, "There is no such city.", "tool_error")


@pytest.mark.parametrize("where", ["run", "usable"])
def test_crash_of_a_tool_stays_inside(registry_of, caplog, where):
    """The model is told that it failed, the operator why; neither text nor trace leaks."""

    def crash(value, *_):
        raise ValueError("secret")

    options = {"usable": crash} if where == "usable" else {}
    run = registry_of(make(crash if where == "run" else lambda *_: Output(text="x"), **options)).run(
        "lookup", {}, make_context()
    )
    assert (run.outcome, run.text, run.error_type) == (ToolOutcome.ERROR, "The tool failed.", "ValueError")
    assert "secret" in caplog.text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_tool_that_ends_its_thread_is_an_error(registry_of):
    """Even what is no ordinary exception has an outcome, at once."""

    def end(arguments, context):
        raise SystemExit

    run = registry_of(make(end)).run("lookup", {}, make_context())
    assert (run.outcome, run.error_type) == (ToolOutcome.ERROR, "no_result")


def test_unknown_tool_and_bad_input_are_errors_that_can_be_read(registry_of):
    """The model made a mistake: it is told which, and nothing is run."""
    registry = registry_of(make(lambda *_: pytest.fail("was run")))
    unknown = registry.run("look_up", {}, make_context())
    assert (unknown.outcome, unknown.error_type) == (ToolOutcome.ERROR, "unknown_tool")
    assert "'look_up'" in unknown.text
    invalid = registry.run("lookup", {"query": 7}, make_context())
    assert (invalid.outcome, invalid.error_type) == (ToolOutcome.ERROR, "invalid_input")
    assert "query must be of type string" in invalid.text


def test_tool_gets_what_its_schema_describes(registry_of):
    """Input that nobody has checked does not reach the tool."""
    seen = []
    one = make(lambda arguments, _: seen.append(arguments) or Output(text="x"))
    registry_of(one).run("lookup", {"query": "a", "shell": "rm"}, make_context())
    assert seen == [{"query": "a"}]


def test_tool_over_its_limit_times_out_and_is_told(registry_of):
    """The caller goes on at the limit; the tool's event is set, and its thread ends."""
    told = threading.Event()

    def slow(arguments, context):
        if context.cancelled.wait(30):
            told.set()
        return Output(text="late")

    registry = registry_of(make(slow, time_limit_s=0.05))
    context = make_context()
    run = registry.run("lookup", {}, context)
    assert (run.outcome, run.error_type, run.passages) == (ToolOutcome.TIMEOUT, "timeout", ())
    assert run.text == "The tool did not answer within 0.1 s."
    assert 50_000_000 <= run.duration_ns < 10 * SECOND_NS
    assert told.wait(10)
    assert not context.cancelled.is_set()


def test_deadline_of_the_turn_cuts_the_limit(registry_of, gate):
    """A tool may not take longer than the turn has left, and knows how long that is."""
    seen = []

    def slow(arguments, context):
        seen.append(context.deadline_ns)
        return stuck_on(gate)(arguments, context)

    context = make_context(deadline_ns=time.monotonic_ns() + SECOND_NS // 20)
    run = registry_of(make(slow, time_limit_s=30)).run("lookup", {}, context)
    assert run.outcome is ToolOutcome.TIMEOUT
    assert run.duration_ns < 10 * SECOND_NS
    assert seen == [context.deadline_ns]
    gate.set()


def test_tool_is_not_begun_after_the_deadline_or_the_end(registry_of):
    """A tool with side effects is better not begun than left half way."""
    registry = registry_of(make(lambda *_: pytest.fail("was run"), side_effects=True))
    late = registry.run("lookup", {}, make_context(deadline_ns=time.monotonic_ns()))
    assert late.outcome is ToolOutcome.TIMEOUT
    ended = make_context()
    ended.cancelled.set()
    assert registry.run("lookup", {}, ended).error_type == "cancelled"


def test_end_of_the_turn_returns_at_once_and_is_no_timeout(registry_of):
    """A cancelled turn does not wait for its tool, which is told; a time-out in the books would be a lie."""
    begun, told = threading.Event(), threading.Event()

    def slow(arguments, context):
        begun.set()
        if context.cancelled.wait(30):
            told.set()
        return Output(text="late")

    registry = registry_of(make(slow, time_limit_s=30))
    context = make_context()
    threading.Thread(target=lambda: begun.wait(30) and context.cancelled.set()).start()
    run = registry.run("lookup", {}, context)
    assert (run.outcome, run.error_type) == (ToolOutcome.ERROR, "cancelled")
    assert run.duration_ns < 10 * SECOND_NS
    assert told.wait(10)


def test_threads_are_counted_and_bounded(registry_of, gate):
    """Tools that hang fill their places and no more; a place that comes free is used again."""
    registry = registry_of(make(stuck_on(gate), time_limit_s=0.01), max_threads=2)
    outcomes = [registry.run("lookup", {}, make_context()) for _ in range(4)]
    assert [run.error_type for run in outcomes] == ["timeout", "timeout", "too_many_tools", "too_many_tools"]
    assert registry.threads == 2
    gate.set()
    end = time.monotonic() + 10
    while registry.threads and time.monotonic() < end:
        threading.Event().wait(0.001)
    assert registry.run("lookup", {}, make_context()).text == "late"
    assert registry.threads == 0


def test_thread_that_cannot_start_is_an_error_and_takes_no_place(registry_of, monkeypatch):
    """Where the system gives no thread, the model is told, and nothing is counted that is not there."""
    registry = registry_of(make(lambda *_: Output(text="x")))

    def refuse(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        assert registry.run("lookup", {}, make_context()).error_type == "too_many_tools"
    assert registry.threads == 0
    assert registry.run("lookup", {}, make_context()).outcome is ToolOutcome.RESULTS


def test_close_stops_what_looks_and_names_what_does_not(registry_of, gate, caplog):
    """At the end a tool that looks at its event is gone, one that does not is counted, and none is begun."""
    begun = threading.Semaphore(0)

    def polite(arguments, context):
        begun.release()
        context.cancelled.wait(30)
        return Output(text="gave up")

    def rude(arguments, context):
        begun.release()
        return stuck_on(gate)(arguments, context)

    registry = registry_of(make(polite, name="polite"), make(rude, name="rude"))
    context, runs = make_context(), []
    callers = [
        threading.Thread(target=lambda name=name: runs.append(registry.run(name, {}, context))) for name in ("polite", "rude")
    ]
    for caller in callers:
        caller.start()
    assert begun.acquire(timeout=10)
    assert begun.acquire(timeout=10)
    assert registry.close(0.2) == 1
    assert "tool-rude" in caplog.text
    assert "tool-polite" not in caplog.text
    assert registry.run("polite", {}, make_context()).error_type == "too_many_tools"
    gate.set()
    for caller in callers:
        caller.join(10)
    assert sorted(run.text for run in runs) == ["gave up", "late"]


def test_result_is_bounded(registry_of):
    """A tool that tells too much is cut, and the model sees that it was."""
    one = make(lambda *_: Output(text="x" * (module.MAX_TEXT_CHARS + 1), passages=(PASSAGE,) * 100))
    run = registry_of(one).run("lookup", {}, make_context())
    assert run.text == "x" * module.MAX_TEXT_CHARS + "\n(The rest was cut.)"
    assert len(run.passages) == module.MAX_PASSAGES


def test_duration_is_of_the_injected_clock(registry_of):
    """The clock is read once before and once after, so that times in a test are known."""
    times = iter([100, 107])
    registry = registry_of(make(lambda *_: Output(text="x")), mono_ns=lambda: next(times))
    assert registry.run("lookup", {}, make_context()).duration_ns == 7


@pytest.mark.parametrize(
    ("forced", "error_type"),
    [(ToolOutcome.EMPTY, None), (ToolOutcome.TIMEOUT, "timeout"), (ToolOutcome.ERROR, "forced")],
)
def test_before_forces_an_outcome_instead_of_the_tool(registry_of, forced, error_type):
    """A fault on purpose looks like the real thing, and the tool is not run."""
    seen = []

    def before(name, context):
        seen.append((name, context.turn_id))
        return forced

    registry = registry_of(make(lambda *_: pytest.fail("was run"), time_limit_s=0.01), before=before)
    run = registry.run("lookup", {}, make_context(turn_id="t1"))
    assert (run.outcome, run.error_type, run.passages) == (forced, error_type, ())
    assert seen == [("lookup", "t1")]


def test_before_that_says_nothing_lets_the_tool_run(registry_of):
    """Without a fault the hook is not noticed."""
    registry = registry_of(make(lambda *_: Output(text="x")), before=lambda *_: None)
    assert registry.run("lookup", {}, make_context()).outcome is ToolOutcome.RESULTS


def test_forced_timeout_ends_with_the_turn(registry_of):
    """A forced time-out waits as a real one does, and no longer than the turn."""
    context = make_context()
    registry = registry_of(make(lambda *_: Output(text="x"), time_limit_s=30), before=lambda *_: ToolOutcome.TIMEOUT)
    threading.Thread(target=context.cancelled.set).start()
    run = registry.run("lookup", {}, context)
    assert run.error_type == "cancelled"
    assert run.duration_ns < 10 * SECOND_NS


def test_registry_tells_of_its_tools(registry_of):
    """Names, what the model sees, limits and side effects; nothing for a tool that is not there."""
    read = make(lambda *_: Output(text="x"), time_limit_s=3)
    send = make(lambda *_: Output(text="x"), name="send", side_effects=True)
    registry = registry_of(read, send)
    assert registry.names == ["lookup", "send"]
    assert [(spec.name, spec.description, spec.input_schema) for spec in registry.specs(["send"])] == [("send", "d", SCHEMA)]
    assert (registry.time_limit_s("lookup"), registry.time_limit_s("gone")) == (3, 0)
    assert [registry.has_side_effects(name) for name in ("lookup", "send", "gone")] == [False, True, False]
    with pytest.raises(KeyError, match="gone"):
        registry.specs(["gone"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "no good"}, "no name of a tool"),
        ({"name": ""}, "no name of a tool"),
        ({"time_limit_s": 0}, "some time"),
        ({"input_schema": {"type": "string"}}, "object"),
    ],
)
def test_tool_that_cannot_be_is_refused_when_it_is_made(options, message):
    """Mistakes of a tool's author show at import, not in a turn."""
    with pytest.raises(ValueError, match=message):
        make(lambda *_: Output(text="x"), **options)


def test_two_tools_of_one_name_are_refused():
    """A name means one tool."""
    with pytest.raises(ValueError, match="lookup"):
        ToolRegistry([make(lambda *_: Output(text="x")), make(lambda *_: Output(text="y"))], time.monotonic_ns)
