"""What is sent to the Messages API: never anything that it would refuse, never a block changed on its way back."""

import pytest

from service.providers.anthropic_request import render
from service.providers.port import AssistantBlocks, AssistantText, ModelRequest, Passage, ToolResult, ToolSpec, UserText

PASSAGE = Passage(url="https://d.example/a", title="A", text="Some evidence.")
SEARCH_RESULT = {
    "type": "search_result",
    "source": "https://d.example/a",
    "title": "A",
    "content": [{"type": "text", "text": "Some evidence."}],
    "citations": {"enabled": True},
}


def messages(*transcript, **fields):
    return render(ModelRequest(model="m", system="s", transcript=transcript, **fields))["messages"]


def text(words):
    return {"type": "text", "text": words}


def test_request_has_what_the_caller_chose():
    """Model, limit, system and tools stand where the API wants them; what is not there is not sent."""
    tool = ToolSpec(name="t", description="d", input_schema={"type": "object"})
    request = ModelRequest(model="m", system="s", transcript=(UserText("q"),), tools=(tool,), max_output_tokens=7)
    assert render(request) == {
        "model": "m",
        "max_tokens": 7,
        "system": "s",
        "tools": [{"name": "t", "description": "d", "input_schema": {"type": "object"}}],
        "messages": [{"role": "user", "content": [text("q")]}],
    }
    assert set(render(ModelRequest(model="m", system="", transcript=(UserText("q"),)))) == {"model", "max_tokens", "messages"}


def test_evidence_stands_before_the_last_question():
    """History stays as it was; passages belong to what is asked now."""
    assert messages(UserText("a"), AssistantText("b"), UserText("c"), passages=(PASSAGE,)) == [
        {"role": "user", "content": [text("a")]},
        {"role": "assistant", "content": [text("b")]},
        {"role": "user", "content": [SEARCH_RESULT, text("c")]},
    ]


def test_blocks_go_back_unchanged():
    """Thinking with its signature, server tools, tool uses: the very blocks, and pauses of one message join."""
    first = ({"type": "thinking", "thinking": "hm", "signature": "sig"}, {"type": "server_tool_use", "id": "s", "input": {}})
    second = ({"type": "tool_use", "id": "t", "name": "n", "input": {"a": 1}},)
    sent = messages(
        UserText("q"), AssistantBlocks(first), AssistantBlocks(second), ToolResult(tool_use_id="t", name="n", text="r")
    )
    assert sent[1] == {"role": "assistant", "content": [*first, *second]}
    assert first[1] == {"type": "server_tool_use", "id": "s", "input": {}}


@pytest.mark.parametrize(
    ("fields", "content"),
    [
        ({"text": "r"}, [text("r")]),
        ({"text": "r", "passages": (PASSAGE,)}, [SEARCH_RESULT]),
        ({"text": "it failed", "passages": (PASSAGE,), "is_error": True}, [text("it failed")]),
        ({"text": " "}, []),
    ],
)
def test_tool_result_is_evidence_where_it_can_be(fields, content):
    """Passages are sent to be cited; an error is text alone, as the API demands; nothing is sent as nothing."""
    result = ToolResult(tool_use_id="t", name="n", **fields)
    *_, last = messages(UserText("q"), AssistantBlocks(({"type": "tool_use", "id": "t", "name": "n", "input": {}},)), result)
    assert last == {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "t", "content": content, "is_error": result.is_error}],
    }


def test_empty_text_is_never_sent():
    """The API refuses it: an earlier turn that showed nothing, and a passage without text, are left out."""
    blank = Passage(url="https://d.example/b", title="", text=" \n")
    assert messages(UserText("a"), AssistantText(""), UserText("b"), passages=(blank,)) == [
        {"role": "user", "content": [text("a"), text("b")]}
    ]
    untitled = Passage(url="https://d.example/c", title="", text="x")
    assert messages(UserText("a"), passages=(untitled,))[0]["content"][0]["title"] == "https://d.example/c"
