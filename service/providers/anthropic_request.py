"""Requests to the Messages API: a request of ours as its arguments.

Owns the order of messages and blocks. Knows neither the SDK nor a connection. Invariant: a role never speaks twice in a row, and no content is empty.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from service.providers.port import AssistantBlocks, AssistantText, ModelRequest, Passage, Said, ToolResult, UserText


def render(request: ModelRequest) -> dict[str, Any]:
    """The Messages API's arguments for a request of ours."""
    arguments: dict[str, Any] = {
        "model": request.model,
        "max_tokens": request.max_output_tokens,
        "messages": _messages(request),
    }
    if request.system:
        arguments["system"] = request.system
    if request.tools:
        arguments["tools"] = [
            {"name": tool.name, "description": tool.description, "input_schema": tool.input_schema} for tool in request.tools
        ]
    return arguments


def _messages(request: ModelRequest) -> list[dict[str, Any]]:
    """The transcript as messages; neighbours of one role are one message, and the evidence stands before the last question."""
    last_question = max(index for index, said in enumerate(request.transcript) if isinstance(said, UserText))
    messages: list[dict[str, Any]] = []
    for index, said in enumerate(request.transcript):
        role, blocks = _blocks_of(said)
        if index == last_question:
            blocks = _search_results(request.passages) + blocks
        if not blocks:
            continue  # an answer that never showed text: the API takes no empty content
        if messages and messages[-1]["role"] == role:
            messages[-1]["content"] += blocks
        else:
            messages.append({"role": role, "content": blocks})
    return messages


def _blocks_of(said: Said) -> tuple[str, list[dict[str, Any]]]:
    match said:
        case UserText(text=text):
            return "user", [{"type": "text", "text": text}]
        case AssistantText(text=text):
            return "assistant", [{"type": "text", "text": text}] if text.strip() else []
        case AssistantBlocks(blocks=blocks):
            return "assistant", list(blocks)
        case ToolResult():
            content = [] if said.is_error else _search_results(said.passages)
            if not content and said.text.strip():
                content = [{"type": "text", "text": said.text}]
            return "user", [
                {"type": "tool_result", "tool_use_id": said.tool_use_id, "content": content, "is_error": said.is_error}
            ]


def _search_results(passages: Iterable[Passage]) -> list[dict[str, Any]]:
    """Evidence as the API takes it, to be cited. Passages without text say nothing, and it takes no empty text."""
    return [
        {
            "type": "search_result",
            "source": passage.url,
            "title": passage.title or passage.url,
            "content": [{"type": "text", "text": passage.text}],
            "citations": {"enabled": True},
        }
        for passage in passages
        if passage.text.strip()
    ]
