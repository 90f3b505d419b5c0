"""What a run came to, as text: the line to paste, JSON, JUnit, an explanation."""

import json
from xml.etree import ElementTree as ET

import pytest

from lastword.check.case import Level, all_cases
from lastword.check.report import as_json, as_junit, explain, summary
from lastword.check.runner import Report, Result, Verdict

CASES = all_cases()
MUST = [case for case in CASES if case.level is Level.MUST]
SHOULD = [case for case in CASES if case.level is Level.SHOULD]
NASTY = b"\x00\x01\x1b[31mred\x1b[0m \xff\xfe ]]> <b>&amp; \xed\xa0\x80 \xef\xbf\xbf caf\xc3\xa9\r\n"


def report(**verdicts):
    """All cases passed, but those named."""
    results = [Result(case=case, verdict=verdicts.get(case.id, Verdict.PASSED)) for case in CASES]
    return Report(url="http://127.0.0.1:8000", results=tuple(results), seconds=1.5)


def one(verdict, case=MUST[0], **fields):
    return Report(url="http://x", results=(Result(case=case, verdict=verdict, **fields),), seconds=0.1)


def test_summary_of_a_clean_run_says_conforms():
    """Everything was tried and holds: no reservation."""
    assert summary(report()).startswith("turn/1.0 conforms · MUST 73/73 · SHOULD 7/7 · lastword check ")


def test_summary_counts_what_was_skipped():
    """A skipped case is neither kept nor broken."""
    line = summary(report(W1=Verdict.SKIPPED, W12=Verdict.SKIPPED))
    assert line.startswith("turn/1.0 conforms as far as tried · MUST 72/73 · SHOULD 6/7 · 2 not tried · lastword check ")


def test_summary_counts_what_was_not_chosen():
    """`--only` does not make a server whole."""
    assert "MUST 1/73 · SHOULD 0/7 · 79 not tried" in summary(one(Verdict.PASSED))


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.BROKEN])
def test_summary_of_a_broken_must_does_not_conform(verdict):
    """One is enough."""
    assert summary(report(W1=verdict)).startswith("turn/1.0 does not conform · MUST 72/73 · SHOULD 7/7 · lastword check ")


def test_conforms_bears_a_broken_should_unless_strict():
    """A SHOULD may have its reasons."""
    assert report(W12=Verdict.FAILED).conforms()
    assert not report(W12=Verdict.FAILED).conforms(strict=True)
    assert not report(W1=Verdict.FAILED).conforms()


def test_conforms_needs_something_that_passed():
    """Nothing tried, nothing shown."""
    assert not one(Verdict.SKIPPED).conforms()


def test_json_holds_every_case_and_any_bytes():
    """What is no UTF-8 is replaced, the rest is as it came."""
    document = json.loads(as_json(one(Verdict.FAILED, message="no", evidence=NASTY, notes=("a", "b"))))
    assert document["conforms"] is False
    (case,) = document["cases"]
    assert (case["id"], case["verdict"], case["message"], case["notes"]) == ("W1", "failed", "no", ["a", "b"])
    assert "\x1b[31mred" in case["evidence"]
    assert case["evidence"].endswith("café\r\n")


def test_junit_is_valid_whatever_was_seen():
    """Control characters, lone surrogates and markup in evidence and messages leave the XML whole."""
    text = as_junit(one(Verdict.FAILED, message="bad \x00\x1b \ud800 <&>", evidence=NASTY))
    (case,) = ET.fromstring(text.encode())
    (failure,) = case
    assert failure.tag == "failure"
    assert failure.get("message") == "bad \ufffd\ufffd \ufffd <&>"
    assert "\ufffd[31mred" in failure.text
    assert "]]> <b>&amp;" in failure.text


def test_junit_counts_as_the_exit_status_does():
    """A failed MUST is a failure, a bug of the checker an error; a SHOULD fails only where the run is strict."""
    whole = report(W1=Verdict.FAILED, W2=Verdict.BROKEN, W12=Verdict.FAILED, W3=Verdict.SKIPPED)
    suite, strict = ET.fromstring(as_junit(whole)), ET.fromstring(as_junit(whole, strict=True))
    names = ("tests", "failures", "errors", "skipped")
    assert [suite.get(name) for name in names] == ["80", "1", "1", "1"]
    assert [strict.get(name) for name in names] == ["80", "2", "1", "1"]
    for tree in (suite, strict):
        assert len(tree.findall("testcase/failure")) == int(tree.get("failures"))
        assert len(tree.findall("testcase/error")) == int(tree.get("errors"))
        assert len(tree.findall("testcase/skipped")) == int(tree.get("skipped"))
    assert "SHOULD not kept" in suite.find("testcase/system-out").text


def test_explanation_shows_bytes_that_a_terminal_does_not_obey():
    """Escape sequences of the server's are written out."""
    shown = explain(MUST[0], Result(case=MUST[0], verdict=Verdict.FAILED, message="no", evidence=NASTY))
    assert "found  failed: no" in shown
    assert "\\x1b[31mred" in shown
    assert "\\xff\\xfe" in shown
    assert "\x1b" not in shown
    assert "\r" not in shown


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_explanation_is_complete_for_every_case(case):
    """Each says its rule, its reason, and what is tried."""
    lines = dict(line.split(maxsplit=1) for line in explain(case, None).splitlines())
    assert set(lines) == {case.id, "level", "rule", "why", "tried"}
