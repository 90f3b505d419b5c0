"""What is registered, what is taken out, and what may be unlinked."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.lake.plan import Released, overlap, plan

FILES = st.dictionaries(st.sampled_from(["spans", "ended"]), st.sets(st.sampled_from("abcdef"), min_size=1))


@given(wanted=FILES, registered=FILES)
def test_plan_leads_to_what_is_wanted_and_says_nothing_then(wanted, registered):
    """Whatever the lake has: behind the plan it has the wanted files, each once, and a second plan is empty."""
    todo = plan(wanted, registered)
    after = {table: set(paths) for table, paths in registered.items()}
    for table, paths in todo.add.items():
        assert not after.get(table, set()) & set(paths)
        after.setdefault(table, set()).update(paths)
    for table, paths in todo.remove.items():
        after[table] -= set(paths)
    assert {table: paths for table, paths in after.items() if paths} == wanted
    assert not plan(wanted, after)


def test_file_is_released_a_grace_after_the_lake_let_go_of_it():
    """Not when it was superseded: the lake may have been out of reach since."""
    released = Released(600)
    assert released.among(["a"], 1_000) == []
    released.saw(["a", "b"], ["b", "c"], 1_000)
    assert released.among(["a", "b", "c"], 1_599) == []
    assert released.among(["a", "b", "c"], 1_600) == ["a"]
    released.saw(["a", "b"], ["c"], 1_700)
    assert released.among(["a", "b", "c"], 1_700) == ["a"]
    assert released.among(["a", "b", "c"], 2_300) == ["a", "b"]


def test_file_that_came_back_is_held():
    """A lake that was restored has files again that it had let go."""
    released = Released(10)
    released.saw(["a"], [], 0)
    released.saw(["a"], ["a"], 20)
    assert released.among(["a"], 20) == []


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("/s/lake", "/s/a", False),
        ("/s", "/s/a", True),
        ("/s/a/b", "/s/a", True),
        ("/s/a", "/s/a", True),
        ("/s/ab", "/s/a", False),
    ],
)
def test_overlap_of_folders(one, other, expected):
    """Names that begin alike do not overlap."""
    assert overlap(Path(one), Path(other)) is expected
