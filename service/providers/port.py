"""The port that every model provider stands behind.

A provider starts calls; a call is iterated by the turn's worker thread, and may be aborted from any thread. Whatever goes wrong is an
`AttemptFailed`. A provider knows nothing of turns, events on the wire, retries or telemetry.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from msgspec import Struct, field

from lastword.events import Usage


class Passage(Struct, frozen=True, kw_only=True):
    """A piece of evidence that retrieval or a tool found. `score` is higher for better."""

    url: str
    title: str
    text: str
    publisher: str | None = None
    score: float = 0.0


class ToolSpec(Struct, frozen=True, kw_only=True):
    """A tool as the model is told of it. `input_schema` is a JSON schema of an object."""

    name: str
    description: str
    input_schema: dict[str, Any]


# --- the transcript: what has been said so far, oldest first


class UserText(Struct, frozen=True):
    """What the person said, now or earlier in the conversation."""

    text: str


class AssistantText(Struct, frozen=True):
    """A canonical answer given earlier in the conversation."""

    text: str


class AssistantBlocks(Struct, frozen=True):
    """What the model returned in an earlier call of this attempt, in the provider's own form, to be sent back unchanged."""

    blocks: tuple[dict[str, Any], ...]


class ToolResult(Struct, frozen=True, kw_only=True):
    """What a tool returned for the `ToolUse` with this id. `text` is what the model reads; `passages` are its evidence."""

    tool_use_id: str
    name: str
    text: str
    is_error: bool = False
    passages: tuple[Passage, ...] = ()


Said = UserText | AssistantText | AssistantBlocks | ToolResult


class ModelRequest(Struct, frozen=True, kw_only=True):
    """One call to a model.

    `passages` is the evidence that retrieval found before the attempt; `metadata` is the caller's and
    `turn_id` the turn's: the embedded provider's named faults ask for them. Timeouts of content are the caller's business (it aborts the call); `connect_timeout_s` and `read_timeout_s` bound what
    happens before and between bytes.
    """

    model: str
    system: str
    transcript: tuple[Said, ...]
    tools: tuple[ToolSpec, ...] = ()
    passages: tuple[Passage, ...] = ()
    max_output_tokens: int = 1024
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 60.0
    attempt: int = 1
    turn_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


# --- what a call yields


class Started(Struct, frozen=True, kw_only=True):
    """The provider took the call."""

    response_id: str | None = None
    model: str | None = None
    request_id: str | None = None


class TextDelta(Struct, frozen=True):
    """Some text of the answer. Never empty."""

    text: str


class Working(Struct, frozen=True):
    """Content came that nobody is shown: a piece of the model's thinking, or of a tool's input. A sign of life, which a ping is not."""


class ToolUse(Struct, frozen=True, kw_only=True):
    """The model wants a tool to be run. Yielded once its input is complete."""

    id: str
    name: str
    input: dict[str, Any]


class Evidence(Struct, frozen=True, kw_only=True):
    """A structured source that the provider named: a citation or a search result."""

    url: str
    title: str | None = None


class Ended(Struct, frozen=True, kw_only=True):
    """The provider's own end of the message: always the last item of a call that did not fail.

    `stop_reason` is the provider's word, `blocks` the message's content in the provider's own form.
    """

    stop_reason: str | None
    usage: Usage
    blocks: tuple[dict[str, Any], ...] = ()


ModelEvent = Started | TextDelta | Working | ToolUse | Evidence | Ended


class ModelCall(Protocol):
    """One call in progress."""

    def __iter__(self) -> Iterator[ModelEvent]:
        """Runs the call. Blocks between events; raises `AttemptFailed`. `Ended` comes last, exactly once, or an error is raised."""
        ...

    def abort(self) -> None:
        """Wakes a blocked reader from any thread, at once; the reader then raises `AttemptFailed`. Idempotent, never raises."""
        ...

    @property
    def usage(self) -> Usage:
        """Tokens known so far. `complete` is false until the provider reported them all."""
        ...


class Provider(Protocol):
    """A source of model calls, shared by all turns of the process."""

    name: str

    def start(self, request: ModelRequest) -> ModelCall:
        """A call, not yet begun: the first step of its iteration sends it."""
        ...

    def close(self) -> None:
        """Frees connections. No call is in progress."""
        ...
