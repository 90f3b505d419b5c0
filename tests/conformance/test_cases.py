"""Every case passes on the reference server, and fails, for the right reason, on the server that breaks its rule."""

import gc
import re

import pytest

from lastword.check.case import Level
from lastword.check.runner import Verdict
from tests.conformance.bench import CASES, run
from tests.conformance.broken import BROKEN, SAYS
from tests.conformance.reference import Reference

# Servers are cut off in the middle of their work here; what they leave to the garbage collector is no fault of a test's.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.timeout(180),
]


@pytest.fixture(autouse=True)
def collected():
    """What a test leaves is collected within its own filters."""
    yield
    gc.collect()


def case_of(broken):
    return broken.rstrip("bc")


@pytest.mark.parametrize("case_id", CASES)
def test_case_passes_on_the_reference(case_id, tmp_path):
    """A check that a correct server fails is wrong."""
    result = run(case_id, Reference, work=tmp_path)
    assert result.verdict is Verdict.PASSED, f"{result.message}\n{result.evidence.decode(errors='replace')}"


@pytest.mark.parametrize("broken", BROKEN)
def test_case_fails_on_its_broken_server(broken, tmp_path):
    """A check that no broken server fails is no check."""
    result = run(case_of(broken), BROKEN[broken], broken, work=tmp_path)
    assert result.verdict is Verdict.FAILED, f"{result.verdict}: {result.message}\n{result.evidence.decode(errors='replace')}"
    assert re.search(SAYS[broken], result.message), result.message


def test_every_case_has_a_broken_server():
    """MUST and SHOULD alike; numbers run from 1 to 80."""
    assert {case_of(broken) for broken in BROKEN} == set(CASES)
    assert [case.number for case in CASES.values()] == list(range(1, 81))
    assert sum(1 for case in CASES.values() if case.level is Level.MUST) == 73
