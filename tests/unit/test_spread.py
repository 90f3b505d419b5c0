"""How `make test` spreads the tests over processes: what shares fixtures stays together."""

from xdist.scheduler import LoadScopeScheduling

from tests import conftest
from tests.support.product import ROOT


def test_modules_stay_whole_but_for_those_that_share_nothing():
    """Parameters and classes make no difference."""
    assert conftest._together("tests/e2e/test_try.py::test_a[x::y]") == conftest._together(
        "tests/e2e/test_try.py::TestB::test_c"
    )
    apart = [conftest._together(f"tests/conformance/test_cases.py::test_a[{case}]") for case in ("W1", "W2")]
    assert len(set(apart)) == 2


def test_what_is_named_as_apart_is_there():
    """A folder or module that is renamed would run in one piece, and long."""
    assert [path for path in conftest.APART if not (ROOT / path).exists()] == []


def test_scheduler_asks_the_method_that_is_ours():
    """Xdist's own schedulers override this one too; were it renamed, every module would be torn apart or none."""
    assert "_split_scope" in vars(LoadScopeScheduling)
