"""The table of aliases: every name of every convention, with the unit that its senders write."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.receive.aliases import ALIASES, MODEL_CALLS, OPERATIONS, OWN_OPERATIONS, Read
from collector.receive.meaning import COLUMNS, meaning
from collector.store.tables import SPANS

START_NS = 1_800_000_000_000_000_000
_WRITTEN = {
    Read.TEXT: ("a word", "a word"),
    Read.COUNT: (12, 12),
    Read.OPERATION: ("LLM", "chat"),
    Read.LAST: (["length", "stop"], "stop"),
    Read.SECONDS: (0.25, 250),
    Read.MILLISECONDS: (250.4, 250),
    Read.SECONDS_OR_MS: (250, 250),
    Read.SECONDS_OR_NS: (250_000_000, 250),
    Read.MOMENT: ('"2027-01-15T08:00:00.250Z"', 250),
    Read.EVENT: (None, 250),
}
"""How to read: what a sender writes, and what is to become of it."""


@pytest.mark.parametrize("alias", ALIASES, ids=lambda alias: f"{alias.column} {alias.name}")
def test_every_name_fills_its_column(alias):
    """Alone on a span, each name of the table is read in its own unit into its own column."""
    written, expected = _WRITTEN[alias.read]
    attributes = {} if alias.event else {alias.name: {alias.inside[0]: written} if alias.inside else written}
    events = (
        [{"name": alias.name, "timeNs": START_NS + n * 250_000_000, "attributes": {}} for n in (1, 2)] if alias.event else []
    )
    if alias.column == "tool_name":
        attributes["gen_ai.operation.name"] = "execute_tool"
    assert meaning(attributes, events, START_NS)[alias.column] == expected


def test_time_to_first_token_is_read_in_eight_spellings_at_least():
    """As many as the design counts, and in every unit that they are written in."""
    spellings = [alias for alias in ALIASES if alias.column == "first_token_ms"]
    assert len({alias.name for alias in spellings}) >= 8
    assert {alias.read for alias in spellings} == {
        Read.SECONDS,
        Read.MILLISECONDS,
        Read.SECONDS_OR_MS,
        Read.SECONDS_OR_NS,
        Read.MOMENT,
        Read.EVENT,
    }


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("gen_ai.server.time_to_first_token", 0.25, 250),
        ("gen_ai.server.time_to_first_token", 1, 1),
        ("gen_ai.response.time_to_first_token", 0.25, 250),
        ("gen_ai.response.time_to_first_chunk", 2, 2000),
        ("gen_ai.response.time_to_first_chunk", "0.25", 250),
        ("langfuse.observation.completion_start_time", "2027-01-15T08:00:00.250000", 250),
        ("langfuse.observation.completion_start_time", "2027-01-15T09:00:00.250+01:00", 250),
    ],
)
def test_unit_of_first_token_follows_its_sender(name, value, expected):
    """Whole numbers and fractions mean different units to different senders of one name."""
    assert meaning({name: value}, [], START_NS)["first_token_ms"] == expected


@pytest.mark.parametrize(
    "value", [-1, math.nan, math.inf, "soon", "", True, None, [], {}, "1e999", 2**64, "2027-13-45", '"'], ids=repr
)
def test_value_that_cannot_be_is_passed_over_for_the_next_name(value):
    """A broken value of a better name does not hide a good value of another."""
    attributes = {
        "gen_ai.response.time_to_first_chunk": value,
        "langfuse.observation.completion_start_time": value,
        "ai.response.msToFirstChunk": 250,
        "gen_ai.usage.input_tokens": value,
        "llm.token_count.prompt": 3,
    }
    assert meaning(attributes, [], START_NS) == {"first_token_ms": 250, "input_tokens": 3}


def test_first_name_of_the_table_wins():
    """A span with names of several conventions is read by the best of them, in whatever order they come."""
    attributes = {
        "llm.token_count.prompt": 1,
        "gen_ai.usage.input_tokens": 2,
        "gen_ai.request.model": "a",
        "gen_ai.response.model": "b",
    }
    expected = {"operation": "chat", "model": "b", "input_tokens": 2}
    assert meaning(attributes, [], START_NS) == expected
    assert meaning(dict(reversed(attributes.items())), [], START_NS) == expected


@pytest.mark.parametrize(("word", "operation"), OPERATIONS.items())
def test_words_of_others_become_the_conventions_own(word, operation):
    """In any case, and always a word that the conventions know."""
    assert operation in OWN_OPERATIONS
    assert meaning({"openinference.span.kind": word.upper()}, [], START_NS) == {"operation": operation}


def test_word_that_nobody_knows_says_nothing():
    """An operation of a framework's own is no model call and no tool."""
    assert meaning({"gen_ai.operation.name": "dance", "traceloop.span.kind": "task"}, [], START_NS) == {}


def test_names_of_workflows_are_no_tools():
    """OpenLLMetry names tools and workflows by the same attribute."""
    name = {"traceloop.entity.name": "x"}
    assert meaning(name | {"traceloop.span.kind": "workflow"}, [], START_NS) == {"operation": "invoke_workflow"}
    assert meaning(name | {"traceloop.span.kind": "tool"}, [], START_NS) == {"operation": "execute_tool", "tool_name": "x"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("stop", "stop"),
        ('["length","stop"]', "stop"),
        ("[broken", "[broken"),
        ([], None),
        ([None], None),
        ([["x"]], None),
        (" ", None),
    ],
)
def test_finish_reason_is_the_last_of_a_list(value, expected):
    """As a list, as a list in JSON text, or as a word."""
    assert meaning({"gen_ai.response.finish_reasons": value}, [], START_NS).get("finish_reason") == expected


def test_usage_of_langfuse_is_read_as_text_too():
    """Its exporter writes the object as JSON text."""
    text = '{"input": 3, "output": 4, "cache_read_input_tokens": 2, "total": 9}'
    found = meaning({"langfuse.observation.usage_details": text}, [], START_NS)
    assert found == {"input_tokens": 3, "output_tokens": 4, "cache_read_tokens": 2}
    assert meaning({"langfuse.observation.usage_details": "[" * 10_000}, [], START_NS) == {}


def test_pending_span_is_recognised():
    """Logfire's placeholder is marked; its finished span is not."""
    assert meaning({"logfire.span_type": "pending_span"}, [], START_NS) == {"pending": True}
    assert meaning({"logfire.span_type": "span"}, [], START_NS) == {}


def test_columns_of_the_table_are_columns_of_spans():
    """What the table fills is stored, and calls of a model are operations."""
    assert set(COLUMNS) <= set(SPANS.names)
    assert MODEL_CALLS <= OWN_OPERATIONS


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64) | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text that is drawn waits for tables of characters
@given(
    attributes=st.dictionaries(st.sampled_from([alias.name for alias in ALIASES]), _VALUES, max_size=8),
    events=st.lists(
        st.tuples(st.sampled_from([alias.name for alias in ALIASES if alias.event]), st.integers(0, 2**64 - 1)), max_size=3
    ),
    start_ns=st.integers(1, 2**63 - 1),
)
def test_no_value_breaks_the_reader_and_numbers_fit_their_columns(attributes, events, start_ns):
    """Whatever a sender writes under these names: text is text, numbers fit 64 bits and are not negative."""
    found = meaning(attributes, [{"name": name, "timeNs": at, "attributes": {}} for name, at in events], start_ns)
    for column, value in found.items():
        if SPANS.field(column).type == "int64":
            assert type(value) is int
            assert 0 <= value < 2**63
        else:
            assert type(value) is str
