"""Running cases: a verdict for each, whatever happens, within the time."""

import time

import pytest

from lastword.check.bench import Bench, Options
from lastword.check.case import Case, Failed, Level, Need, NotTried, all_cases, select
from lastword.check.exchange import OutOfTime, Target, Unreachable
from lastword.check.process import CannotStart
from lastword.check.runner import Verdict, run_all, run_case


def case(run, ident="W1", needs=Need.NOTHING, limit_s=5.0):
    return Case(id=ident, title="t", rule="r", why="w", level=Level.MUST, needs=needs, limit_s=limit_s, run=run)


def bench():
    return Bench(Target.of("http://127.0.0.1:1"), Options())


def raises(error):
    def run(bench):
        raise error

    return run


def told(*_):
    """Nobody listens."""


def test_case_that_returns_has_passed():
    """Its notes are kept."""
    result = run_case(bench(), case(lambda bench: bench.note("half of it")), 5)
    assert (result.verdict, result.message, result.notes) == (Verdict.PASSED, "", ("half of it",))


@pytest.mark.parametrize(
    ("error", "verdict", "message"),
    [
        (Failed("it is wrong", b"seen"), Verdict.FAILED, "it is wrong"),
        (OutOfTime("it did not come", b"seen"), Verdict.FAILED, "it did not come"),
        (Unreachable("nobody there"), Verdict.FAILED, "nobody there"),
        (CannotStart("it does not come up"), Verdict.FAILED, "it does not come up"),
        (NotTried("needs a key"), Verdict.SKIPPED, "needs a key"),
        (KeyError("seq"), Verdict.BROKEN, "the checker failed, not the server: please report this"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_case_that_raises_has_its_verdict(error, verdict, message):
    """The server's faults, missing occasions and the checker's own bugs are told apart."""
    result = run_case(bench(), case(raises(error)), 5)
    assert (result.verdict, result.message) == (verdict, message)


def test_bug_of_the_checker_comes_with_its_traceback():
    """Whoever reports it has something to send."""
    result = run_case(bench(), case(raises(ZeroDivisionError())), 5)
    assert b"ZeroDivisionError" in result.evidence
    assert b"test_runner.py" in result.evidence


def test_interruption_is_no_verdict():
    """Ctrl-C ends the run, not the case."""
    with pytest.raises(KeyboardInterrupt):
        run_case(bench(), case(raises(KeyboardInterrupt())), 5)


def test_message_of_a_server_is_shortened():
    """A megabyte of answer does not fill the terminal."""
    result = run_case(bench(), case(raises(Failed("x" * 10_000))), 5)
    assert result.message == "x" * 600 + " …"


@pytest.mark.parametrize(
    ("need", "says"), [(Need.PROVIDER, "fake provider"), (Need.TELEMETRY, "--otlp-port"), (Need.PROCESS, "--start")]
)
def test_case_without_its_side_is_skipped(need, says):
    """It is not run, and the message names what is missing."""
    result = run_case(bench(), case(raises(AssertionError()), needs=need), 5)
    assert result.verdict is Verdict.SKIPPED
    assert says in result.message


@pytest.mark.parametrize(("own_s", "run_s", "given_s"), [(5.0, 100.0, 5.0), (100.0, 5.0, 5.0)])
def test_case_gets_the_shorter_of_its_time_and_the_runs(own_s, run_s, given_s):
    """Neither a case nor the run takes longer than it may."""
    seen = []
    run_case(bench(), case(lambda bench: seen.append(bench.budget.left_s), limit_s=own_s), run_s)
    assert given_s - 1 < seen[0] <= given_s


def test_run_that_reached_its_limit_tries_no_more():
    """What is left is said to be untried, with the option that would help."""
    tried = []
    cases = [case(lambda _: tried.append(1), ident=ident) for ident in ("W1", "W2")]
    report = run_all(bench(), cases, limit_s=1.0, told=told)
    assert tried == []
    assert [one.verdict for one in report.results] == [Verdict.SKIPPED, Verdict.SKIPPED]
    assert "limit of 1 s was reached (--limit)" in report.results[0].message
    assert not report.conforms()


def test_run_tells_of_each_case_before_and_after():
    """What shows progress hears of everything, in order."""
    heard = []
    first, second = case(raises(Failed("no"))), case(lambda _: None, ident="W2")
    run_all(bench(), [first, second], limit_s=60, told=lambda one, result: heard.append((one.id, result and result.verdict)))
    assert heard == [("W1", None), ("W1", Verdict.FAILED), ("W2", None), ("W2", Verdict.PASSED)]


def test_wait_of_a_case_ends_with_its_time():
    """A condition that never comes true is given up when the case's time is over, not when its own would be."""
    began = time.monotonic()
    result = run_case(bench(), case(lambda bench: bench.budget.wait_for(lambda: False, 600, "never"), limit_s=0.2), 60)
    assert result.verdict is Verdict.FAILED
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["P25"], ["P25"]),
        (["p25"], ["P25"]),
        (["25"], ["P25"]),
        (["L"], ["L66", "L67", "L68", "L69", "L70"]),
        (["lifecycle"], ["L66", "L67", "L68", "L69", "L70"]),
        (["V74", "W1", "V74"], ["W1", "V74"]),
    ],
)
def test_selection_takes_ids_numbers_letters_and_names(words, found):
    """In the order of the numbers, once each."""
    assert [one.id for one in select(words, Level.MAY)] == found


def test_selection_by_level_leaves_out_what_binds_less():
    """MUST alone, or MUST and SHOULD; without words all groups."""
    assert {one.level for one in select([], Level.MUST)} == {Level.MUST}
    assert select([], Level.MAY) == all_cases()
    assert select(["W12"], Level.MUST) == []


@pytest.mark.parametrize("word", ["", "Z", "W99", "81", "0", "wir"])
def test_selection_of_an_unknown_word_is_refused(word):
    """A typing error does not select nothing, or everything."""
    with pytest.raises(ValueError, match="--list"):
        select([word], Level.MAY)
