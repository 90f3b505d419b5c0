"""The check of a tool's input."""

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.tools.schema import check_input, check_schema

SCHEMA = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "d", "maxLength": 5},
        "limit": {"type": "integer", "minimum": 1, "maximum": 10},
        "share": {"type": "number", "minimum": 0},
        "deep": {"type": "boolean"},
        "unit": {"type": "string", "enum": ["m", "ft"]},
    },
    "required": ["query"],
}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"query": "x"}, None),
        ({"query": "x", "limit": 10, "share": 0.5, "deep": True, "unit": "ft", "more": [1]}, None),
        ({"query": "x", "share": 2}, None),
        ([], "an object is expected"),
        ({}, "missing: query"),
        ({"query": 3}, "query must be of type string"),
        ({"query": None}, "query must be of type string"),
        ({"query": "abcdef"}, "query is longer than 5 characters"),
        ({"query": "x", "limit": 11}, "limit must lie between 1 and 10"),
        ({"query": "x", "limit": True}, "limit must be of type integer"),
        ({"query": "x", "limit": "3"}, "limit must be of type integer"),
        ({"query": "x", "share": -1}, "share must lie between 0 and ∞"),
        ({"query": "x", "share": float("nan")}, "share must lie between 0 and ∞"),
        ({"query": "x", "deep": 1}, "deep must be of type boolean"),
        ({"query": "x", "unit": "km"}, "unit must be one of m, ft"),
    ],
)
def test_input_is_checked_and_the_problem_told(value, problem):
    """What is wrong is one sentence that a model can read; what the schema does not know is no fault."""
    assert check_input(SCHEMA, value) == problem


VALUES = (
    st.none() | st.booleans() | st.integers(-5, 15) | st.sampled_from([0.5, -0.5, 2.25]) | st.text(max_size=8) | st.just("m")
)


@given(st.dictionaries(st.sampled_from(["query", "limit", "share", "deep", "unit", "other"]), VALUES))
def test_input_is_taken_where_json_schema_takes_it(value):
    """On the subset that tools use, the verdict is that of a full JSON schema validator."""
    valid = jsonschema.Draft202012Validator(SCHEMA).is_valid(value)
    assert (check_input(SCHEMA, value) is None) == valid


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({}, "must be object"),
        ({"type": "object", "additionalProperties": False}, "additionalProperties"),
        ({"type": "object", "properties": {"a": {"type": "array"}}}, "a must have a type"),
        ({"type": "object", "properties": {"a": {}}}, "a must have a type"),
        ({"type": "object", "properties": {"a": {"type": "string", "pattern": "x"}}}, "a uses pattern"),
        ({"type": "object", "required": ["b"]}, "not described: b"),
    ],
)
def test_schema_that_asks_for_more_than_is_checked_is_refused(schema, message):
    """A rule that nobody would enforce is an error of the tool's author."""
    with pytest.raises(ValueError, match=message):
        check_schema(schema)
