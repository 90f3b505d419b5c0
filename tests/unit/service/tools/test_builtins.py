"""The tools that come with the service."""

import threading
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastword.events import ToolOutcome
from service.providers.port import Passage
from service.tools.builtins import default_registry, evaluate
from service.tools.registry import ToolContext, ToolError

NOW = datetime(2026, 7, 1, 12, 30, 15, 999, tzinfo=UTC)
PASSAGES = tuple(Passage(url=f"https://a.example/{n}", title=f"T{n}", text=f"text {n}") for n in range(12))


@pytest.fixture
def call():
    """Runs a built-in tool with a search over fixed passages."""
    asked = []

    def search(query, limit):
        asked.append((query, limit))
        return PASSAGES[:limit] if query != "nothing" else ()

    registry = default_registry(time.monotonic_ns, now=lambda: NOW)
    context = ToolContext(cancelled=threading.Event(), deadline_ns=time.monotonic_ns() + 30_000_000_000, search=search)

    def run(name, **arguments):
        return registry.run(name, arguments, context)

    run.asked = asked
    yield run
    assert registry.close(10) == 0


def test_registry_has_the_built_in_tools():
    """All three, none with side effects, in the order of the docs."""
    registry = default_registry(time.monotonic_ns)
    assert registry.names == ["search_knowledge", "calculate", "current_time"]
    assert not any(registry.has_side_effects(name) for name in registry.names)


def test_search_knowledge_returns_passages_with_their_addresses(call):
    """The model reads titles, addresses and texts; the passages are the evidence."""
    run = call("search_knowledge", query="text", limit=2)
    assert (run.outcome, run.passages) == (ToolOutcome.RESULTS, PASSAGES[:2])
    assert run.text == "T0 (https://a.example/0)\ntext 0\n\nT1 (https://a.example/1)\ntext 1"
    call("search_knowledge", query="more")
    assert call.asked == [("text", 2), ("more", 5)]


def test_search_knowledge_without_hits_is_empty(call):
    """Nothing found is no evidence, and no error either."""
    run = call("search_knowledge", query="nothing")
    assert (run.outcome, run.text) == (ToolOutcome.EMPTY, "Nothing was found.")


@pytest.mark.parametrize("arguments", [{}, {"query": "x", "limit": 0}, {"query": "x", "limit": 11}, {"query": "x" * 401}])
def test_search_knowledge_refuses_bad_input(call, arguments):
    """The limits of the schema hold."""
    assert call("search_knowledge", **arguments).error_type == "invalid_input"
    assert call.asked == []


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({}, "2026-07-01T12:30:15+00:00"),
        ({"timezone": "utc"}, "2026-07-01T12:30:15+00:00"),
        ({"timezone": "Europe/Berlin"}, "2026-07-01T14:30:15+02:00"),
    ],
)
def test_current_time_is_iso_in_the_zone(call, arguments, text):
    """To the second, with its offset."""
    run = call("current_time", **arguments)
    assert (run.outcome, run.text) == (ToolOutcome.RESULTS, text)


@pytest.mark.parametrize("zone", ["Berlin", "../../etc/passwd", "/etc/passwd", "", "Europe", "\x00"])
def test_current_time_refuses_what_is_no_zone(call, zone):
    """An error that tells what a name looks like; no file outside the database of zones is opened."""
    run = call("current_time", timezone=zone)
    assert (run.outcome, run.error_type) == (ToolOutcome.ERROR, "tool_error")
    assert "such as Europe/Berlin" in run.text


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("(2 + 3) * 4 ^ 2", "(2 + 3) * 4 ^ 2 = 80"),
        (" 7 / 2 ", "7 / 2 = 3.5"),
        ("0.1 + 0.2", "0.1 + 0.2 = 0.3"),
        ("7 // 2 + 7 % 2", "7 // 2 + 7 % 2 = 4"),
        ("-2 ** 2", "-2 ** 2 = -4"),
        ("+1 - -1", "+1 - -1 = 2"),
        ("6 / 2", "6 / 2 = 3"),
        ("2^128", "2^128 = 340282366920938463463374607431768211456"),
        ("2 ^ -1", "2 ^ -1 = 0.5"),
        ("1e300 * 0 + 1e20 / 3", None),
        ("1e20 / 3", "1e20 / 3 = 3.33333333333e+19"),
    ],
)
def test_calculate_gives_the_value(call, expression, text):
    """Whole numbers exactly, others with the digits that can be trusted."""
    run = call("calculate", expression=expression)
    if text is None:
        assert run.text == "The value is too large."
    else:
        assert (run.outcome, run.text) == (ToolOutcome.RESULTS, text)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1 / 0", "Division by zero"),
        ("1 % 0", "Division by zero"),
        ("0 ^ -1", "Division by zero"),
        ("9 ^ 9 ^ 9", "Exponents go up to"),
        ("2 ^ 1e9", "Exponents go up to"),
        ("10 ^ 200", "too large"),
        ("1e400", "too large"),
        ("1e400 - 1e400", "too large"),
        ("9" * 150, "too large"),
        ("(" * 90 + "1" + ")" * 90, ""),
        ("-" * 60 + "1", "nested too deeply"),
        ("(-8) ^ 0.5", "no real value"),
        ("2 +", "no arithmetic expression"),
        ("", "no arithmetic expression"),
        ("\x00", "no arithmetic expression"),
        ("two + 2", "Only numbers"),
        ("True + 1", "Only numbers"),
        ("'a' * 3", "Only numbers"),
        ("1j", "Only numbers"),
        ("1 < 2", "Only numbers"),
        ("1 << 9999", "Only numbers"),
        ("__import__('os').system('id')", "Only numbers"),
        ("[1 for _ in range(9)]", "Only numbers"),
        ("(1).real", "Only numbers"),
    ],
)
def test_calculate_refuses_what_is_no_arithmetic(call, expression, message):
    """Each with a clear error; nothing is ever executed."""
    run = call("calculate", expression=expression)
    if not message:
        assert run.text.endswith(" = 1")  # parentheses leave no trace in the tree, and nest nothing
        return
    assert (run.outcome, run.error_type) == (ToolOutcome.ERROR, "tool_error")
    assert message in run.text


@given(st.text(alphabet="0123456789.eE+-*/%^() ", max_size=200) | st.text(max_size=200))
def test_evaluate_gives_a_bounded_number_or_a_tool_error(expression):
    """Whatever is asked, nothing else comes out, and it comes soon."""
    try:
        value = evaluate(expression)
    except ToolError:
        return
    assert abs(value) <= 1e100
