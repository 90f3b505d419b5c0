"""What the provider's own types mean as evidence: every member of the SDK's unions has a stated outcome, so that a new one is noticed."""

from typing import get_args

import anthropic.types as sdk
import pytest
from anthropic.types.citations_delta import Citation
from anthropic.types.raw_content_block_start_event import ContentBlock

from service.providers.anthropic_provider import AnthropicCall
from service.providers.port import Evidence, Working

URL = "https://example.org/page"
PLACE = {"cited_text": "x", "document_index": 0, "document_title": "Sent along", "file_id": None}
CITATIONS = {
    "CitationCharLocation": ({**PLACE, "type": "char_location", "start_char_index": 0, "end_char_index": 1}, []),
    "CitationPageLocation": ({**PLACE, "type": "page_location", "start_page_number": 1, "end_page_number": 2}, []),
    "CitationContentBlockLocation": (
        {**PLACE, "type": "content_block_location", "start_block_index": 0, "end_block_index": 1},
        [],
    ),
    "CitationsWebSearchResultLocation": (
        {"type": "web_search_result_location", "cited_text": "x", "encrypted_index": "e", "title": "Found", "url": URL},
        [(URL, "Found")],
    ),
    "CitationsSearchResultLocation": (
        {
            "type": "search_result_location",
            "cited_text": "x",
            "search_result_index": 0,
            "start_block_index": 0,
            "end_block_index": 1,
            "source": URL,
            "title": "Given",
        },
        [(URL, "Given")],
    ),
}
"""By class: an example as it comes, and the sources that it names."""

RESULT = {"type": "web_search_result", "encrypted_content": "e", "page_age": None, "title": "Found", "url": URL}
FETCHED = {
    "type": "document",
    "source": {"type": "text", "media_type": "text/plain", "data": "x"},
    "title": "Fetched",
    "citations": None,
}
BLOCKS = {
    "TextBlock": [({"type": "text", "text": "", "citations": None}, [])],
    "ThinkingBlock": [({"type": "thinking", "thinking": "", "signature": ""}, [])],
    "RedactedThinkingBlock": [({"type": "redacted_thinking", "data": "x"}, [])],
    "ToolUseBlock": [({"type": "tool_use", "id": "t", "name": "n", "input": {}}, [])],
    "ServerToolUseBlock": [({"type": "server_tool_use", "id": "t", "name": "web_search", "input": {}}, [])],
    "WebSearchToolResultBlock": [
        ({"type": "web_search_tool_result", "tool_use_id": "t", "content": [RESULT, RESULT]}, [(URL, "Found"), (URL, "Found")]),
        (
            {
                "type": "web_search_tool_result",
                "tool_use_id": "t",
                "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"},
            },
            [],
        ),
    ],
    "WebFetchToolResultBlock": [
        (
            {
                "type": "web_fetch_tool_result",
                "tool_use_id": "t",
                "content": {"type": "web_fetch_result", "url": URL, "retrieved_at": None, "content": FETCHED},
            },
            [(URL, "Fetched")],
        ),
        (
            {
                "type": "web_fetch_tool_result",
                "tool_use_id": "t",
                "content": {"type": "web_fetch_tool_result_error", "error_code": "unavailable"},
            },
            [],
        ),
    ],
    # what a program printed or a file holds may name addresses, and is no statement of a source
    "CodeExecutionToolResultBlock": [],
    "BashCodeExecutionToolResultBlock": [],
    "TextEditorCodeExecutionToolResultBlock": [],
    "ToolSearchToolResultBlock": [],
    "ContainerUploadBlock": [({"type": "container_upload", "file_id": "f"}, [])],
}


def members(union):
    """The classes of a union, however it is nested and annotated."""
    if isinstance(union, type):
        return [union]
    return [one for part in get_args(union) for one in members(part) if not isinstance(part, str)]


def named(items):
    return [(item.url, item.title) for item in items if isinstance(item, Evidence)]


def a_call():
    return AnthropicCall(None, None, None)


def event(kind, **fields):
    return {
        "content_block_start": sdk.RawContentBlockStartEvent,
        "content_block_delta": sdk.RawContentBlockDeltaEvent,
    }[kind].model_validate({"type": kind, "index": 0, **fields})


def test_every_kind_of_citation_and_block_has_an_outcome():
    """A version of the SDK that adds one fails here, and not in silence."""
    assert {one.__name__ for one in members(Citation)} == set(CITATIONS)
    assert {one.__name__ for one in members(ContentBlock)} == set(BLOCKS)


@pytest.mark.parametrize(("raw", "sources"), CITATIONS.values(), ids=CITATIONS)
def test_citation_names_the_sources_that_it_should(raw, sources):
    """Through the SDK's own classes, as they come in a stream."""
    items = a_call()._translate(event("content_block_delta", delta={"type": "citations_delta", "citation": raw}), None)
    assert named(items) == sources


@pytest.mark.parametrize(
    ("raw", "sources"),
    [example for examples in BLOCKS.values() for example in examples],
    ids=[f"{name}-{number}" for name, examples in BLOCKS.items() for number, _ in enumerate(examples)],
)
def test_block_names_the_sources_that_it_should(raw, sources):
    """Pages that the provider's tools found or fetched are evidence; a failure of theirs is none, and nothing breaks on it."""
    assert named(a_call()._translate(event("content_block_start", content_block=raw), None)) == sources


def test_a_block_that_begins_again_is_another_one():
    """Its text is its own and whole, what came before under the same index is gone."""
    call = a_call()
    for text in ("old", "new, "):
        list(
            call._translate(event("content_block_start", content_block={"type": "text", "text": text, "citations": None}), None)
        )
        list(call._translate(event("content_block_delta", delta={"type": "text_delta", "text": "one"}), None))
    (ended,) = call._translate(sdk.RawMessageStopEvent(type="message_stop"), None)
    assert [block["text"] for block in ended.blocks] == ["new, one"]


@pytest.mark.parametrize(
    "delta",
    [{"type": "input_json_delta", "partial_json": "{"}, {"type": "thinking_delta", "thinking": "hm", "estimated_tokens": None}],
)
def test_content_that_is_not_shown_is_a_sign_of_life(delta):
    """The model works on the input of a tool, or thinks: that is no stall."""
    assert list(a_call()._translate(event("content_block_delta", delta=delta), None)) == [Working()]
