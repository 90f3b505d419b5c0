"""Faults on purpose: asked for or drawn, decided by pure functions."""

import pytest

from lastword.errors import SettingsError
from lastword.events import ToolOutcome
from service.providers.extractive import THOROUGH, ExtractiveProvider
from service.providers.faults import Fault, FaultName, FaultPlan, fault_asked_for, fault_for_tool, parse_faults
from service.providers.port import ModelRequest, Passage, TextDelta, UserText

EMPTY, SLOW, REFUSED = Fault(FaultName.EMPTY_TOOL_RESULT), Fault(FaultName.TOOL_TIMEOUT), Fault(FaultName.REFUSAL)


@pytest.mark.parametrize(
    ("metadata", "draw", "outcome"),
    [
        ({}, None, None),
        ({}, EMPTY, ToolOutcome.EMPTY),
        ({}, SLOW, ToolOutcome.TIMEOUT),
        ({}, REFUSED, None),
        ({"fault": "tool_timeout"}, None, ToolOutcome.TIMEOUT),
        ({"fault": "tool_timeout"}, EMPTY, ToolOutcome.TIMEOUT),
        ({"fault": "refusal"}, EMPTY, None),
        ({"fault": "no such thing"}, EMPTY, ToolOutcome.EMPTY),
    ],
)
def test_tool_fault_is_what_was_asked_for_or_else_drawn(metadata, draw, outcome):
    """A request's wish goes before the dice; what is no fault is no wish."""
    assert fault_for_tool(metadata, draw) is outcome


def test_tools_obey_a_request_only_where_that_is_allowed(make_context):
    """The setting holds for the tools as it holds for the model; the dice do not depend on it."""
    context = make_context({"fault": "tool_timeout"})
    assert FaultPlan({}, by_request=True).before_tool("t", context) is ToolOutcome.TIMEOUT
    assert FaultPlan({}, by_request=False).before_tool("t", context) is None
    assert FaultPlan({EMPTY: 1.0}, by_request=False).before_tool("t", context) is ToolOutcome.EMPTY


def test_model_and_tools_of_a_turn_see_one_fault(make_context):
    """The provider and the registry ask separately and are told the same."""
    plan = parse_faults("empty_tool_result=0.5", seed=3)
    turns = [f"t{n}" for n in range(100)]
    by_model = [plan.fault_for(turn, {}) is not None for turn in turns]
    assert by_model == [plan.before_tool("t", make_context({}, turn)) is not None for turn in turns]
    assert 30 < sum(by_model) < 70


def test_wish_does_not_move_the_dice(make_context):
    """A turn that asks for its fault takes no draw from the turns behind it, so that a run can be repeated."""
    plain, wished = (parse_faults("stall=0.5", seed=2) for _ in range(2))
    wished.fault_for("w", {"fault": "refusal"})
    wished.before_tool("t", make_context({"fault": "refusal"}, "w"))
    turns = [f"t{n}" for n in range(50)]
    assert [plain.fault_for(turn, {}) for turn in turns] == [wished.fault_for(turn, {}) for turn in turns]


def test_wish_is_read_strictly():
    """Names and extents as in the settings; anything else is a caller's own word."""
    assert fault_asked_for({"fault": "overloaded_before_text:2"}) == Fault(FaultName.OVERLOADED_BEFORE_TEXT, 2)
    assert [fault_asked_for({"fault": text}) for text in ("", "stall:0", "stall:x", "stall:²", "STALL")] == [None] * 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("stall=0.1,stall=0.2", "two shares"),
        ("nonsense=0.1", "known: overloaded_before_text"),
        ("stall=nan", "between 0 and 1"),
        ("stall=0.7,refusal=0.7", "sum to 1.4"),
    ],
)
def test_error_says_what_is_wrong(text, says):
    """The message names the part that has to be changed."""
    with pytest.raises(SettingsError, match=says):
        parse_faults(text)


def test_turn_streams_the_same_whatever_runs_beside_it():
    """With a seed, the pieces of an answer depend on the turn and the try, not on the order of calls."""

    def pieces(provider, turn_id, attempt=1):
        passage = Passage(url="u", title="Streams", text="A stream is partial when it was cut after some text. " * 3)
        request = ModelRequest(
            model=THOROUGH,
            system="",
            transcript=(UserText("partial stream"),),
            passages=(passage,),
            turn_id=turn_id,
            attempt=attempt,
        )
        return [event.text for event in provider.start(request) if isinstance(event, TextDelta)]

    one, other = (ExtractiveProvider(pace_ms=0, faults=FaultPlan({}), seed=1) for _ in range(2))
    first = pieces(one, "a")
    for turn in "bcd":
        pieces(other, turn)
    assert pieces(other, "a") == first
    assert any(pieces(one, turn) != first for turn in "efghij")
