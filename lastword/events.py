"""The events of a turn and the records made of them, as typed values.

Owns the field names of the wire (camel case in JSON, snake case here). Knows neither bytes nor HTTP: see `wire`. Milliseconds are
integers; times are UTC.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from lastword import CONTRACT

Ms = Annotated[int, Meta(ge=0, description="milliseconds")]
Count = Annotated[int, Meta(ge=0)]
OnDisconnect = Literal["continue", "cancel"]


class CompletionStatus(StrEnum):
    """How a turn ended. Closed: a reader takes an unknown value as not-success."""

    SUCCESS = "success"
    DEGRADED = "degraded"
    FALLBACK = "fallback"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class Reason(StrEnum):
    """Why a turn did not simply succeed. Closed; absent for success."""

    PROVIDER_ERROR = "provider_error"
    PROVIDER_OVERLOADED = "provider_overloaded"
    PROVIDER_TRUNCATED = "provider_truncated"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"
    STALL_TIMEOUT = "stall_timeout"
    DEADLINE = "deadline"
    CLIENT_CANCELLED = "client_cancelled"
    CLIENT_DISCONNECTED = "client_disconnected"
    SERVER_SHUTDOWN = "server_shutdown"
    SERVER_CRASH = "server_crash"
    OUTPUT_LIMIT = "output_limit"
    REFUSAL = "refusal"
    INTERNAL_ERROR = "internal_error"


class ToolOutcome(StrEnum):
    """What a tool call came to. Only `results` counts in `toolsWithResults`."""

    RESULTS = "results"
    EMPTY = "empty"
    ERROR = "error"
    TIMEOUT = "timeout"


class Origin(StrEnum):
    """Where a source was evidenced."""

    RETRIEVAL = "retrieval"
    TOOL = "tool"
    PAYLOAD = "payload"
    ANSWER = "answer"


def partial_for(status: CompletionStatus, chunk_count: int) -> bool:
    """Whether a turn of this status is partial: a person saw text of an answer that did not finish."""
    match status:
        case CompletionStatus.TRUNCATED | CompletionStatus.INTERRUPTED:
            return True
        case CompletionStatus.REFUSED | CompletionStatus.CANCELLED:
            return chunk_count > 0
        case CompletionStatus.SUCCESS | CompletionStatus.DEGRADED | CompletionStatus.FALLBACK:
            return False


class _Value(Struct, frozen=True, kw_only=True, rename="camel"):
    """A part of an event: immutable, keyword only."""


class Usage(_Value, frozen=True, kw_only=True):
    """Tokens, summed over every provider call of the turn. `complete` is false where a call was cut before it reported."""

    input_tokens: Count = 0
    output_tokens: Count = 0
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    complete: bool = True

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_tokens=self.cache_read_tokens + other.cache_read_tokens,
            cache_write_tokens=self.cache_write_tokens + other.cache_write_tokens,
            complete=self.complete and other.complete,
        )


class SourceDetail(_Value, frozen=True, kw_only=True):
    """One source. `origins` says where it was evidenced; `score` is the retrieval's rank score, higher is better."""

    url: str
    title: str | None = None
    publisher: str | None = None
    origins: tuple[Origin, ...] = ()
    score: float | None = None


class ToolCall(_Value, frozen=True, kw_only=True):
    """One call of a tool."""

    name: str
    outcome: ToolOutcome
    duration_ms: Ms


class Attempt(_Value, frozen=True, kw_only=True):
    """One try at the model. `outcome` is `ok` or the reason that ended it; `visible` says whether it had shown text."""

    n: Annotated[int, Meta(ge=1)]
    model: str
    model_tier: str
    outcome: str
    error_type: str | None = None
    visible: bool = False
    provider_request_id: str | None = None
    usage: Usage = Usage()
    duration_ms: Ms = 0


class StageTimings(_Value, frozen=True, kw_only=True, omit_defaults=True):
    """Milliseconds by stage. A stage that did not run is absent. Stages are disjoint: their sum never exceeds `total_ms`."""

    auth_ms: Ms | None = None
    precheck_ms: Ms | None = None
    conversation_context_ms: Ms | None = None
    route_ms: Ms | None = None
    retrieval_ms: Ms | None = None
    agent_setup_ms: Ms | None = None
    model_wait_ms: Ms | None = None
    stream_ms: Ms | None = None
    post_process_ms: Ms | None = None
    finalize_ms: Ms | None = None


class Timings(StageTimings, frozen=True, kw_only=True):
    """`stageTimings` of a terminal: the stages, and the two marks that count from acceptance."""

    first_token_ms: Ms | None
    total_ms: Ms


class ServiceInfo(_Value, frozen=True, kw_only=True):
    """The process that ran the turn."""

    name: str
    version: str
    instance: str


class DoneMetadata(_Value, frozen=True, kw_only=True):
    """The terminal record of a turn that was answered, whole or in part."""

    # answer
    answer: str
    chunk_count: Count
    streamed_sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    answer_matches_stream: bool
    # evidence
    sources: tuple[str, ...]
    source_details: tuple[SourceDetail, ...]
    tools_used: tuple[str, ...]
    tools_with_results: tuple[str, ...]
    tool_calls: tuple[ToolCall, ...]
    # routing
    route: str
    model_tier: str
    model: str | None
    conversation_id: str
    # outcome
    completion_status: CompletionStatus
    partial: bool
    reason: Reason | None
    finish_reason: str | None
    # cost
    usage: Usage
    # retry
    attempts: tuple[Attempt, ...]
    degraded: bool
    fallback: bool
    # time
    started_at: datetime
    stage_timings: Timings
    # audit
    contract: str = CONTRACT
    service: ServiceInfo
    recovered: bool = False


class ErrorMetadata(_Value, frozen=True, kw_only=True):
    """What is known of a turn that ended without an answer."""

    route: str | None = None
    model_tier: str | None = None
    model: str | None = None
    conversation_id: str | None = None
    reason: Reason
    finish_reason: str | None = None
    tools_used: tuple[str, ...] = ()
    tools_with_results: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = Usage()
    attempts: tuple[Attempt, ...] = ()
    started_at: datetime
    stage_timings: Timings
    contract: str = CONTRACT
    service: ServiceInfo
    recovered: bool = False


class Event(_Value, frozen=True, kw_only=True, tag_field="type"):
    """What every event carries. `seq` is contiguous from 1; `t_ms` counts from acceptance."""

    turn_id: str
    seq: Annotated[int, Meta(ge=1)]
    t_ms: Ms


class Ack(Event, frozen=True, kw_only=True, tag="ack"):
    """The first event: the turn is admitted, routed and durable."""

    contract: str = CONTRACT
    trace_id: str
    route: str
    model_tier: str
    conversation_id: str
    deadline_ms: Ms
    heartbeat_ms: Ms
    on_disconnect: OnDisconnect
    resume_url: str


class Chunk(Event, frozen=True, kw_only=True, tag="chunk"):
    """Progressive text, never empty."""

    text: Annotated[str, Meta(min_length=1)]


class Done(Event, frozen=True, kw_only=True, tag="done"):
    """The terminal of a turn that was answered."""

    metadata: DoneMetadata


class Error(Event, frozen=True, kw_only=True, tag="error"):
    """The terminal of a turn that showed nothing and could not be answered. `message` is safe to show."""

    code: str
    message: str
    retryable: bool
    retry_after_ms: Ms | None = None
    metadata: ErrorMetadata


class Ext(Struct, frozen=True, kw_only=True):
    """An event of a type that this reader does not know: to be ignored, but its `seq` counts."""

    type: str
    turn_id: str
    seq: int
    t_ms: int


Terminal = Done | Error
Known = Ack | Chunk | Done | Error
AnyEvent = Known | Ext


class TurnAccepted(_Value, frozen=True, kw_only=True):
    """Body of the `turn.accepted` record: makes a turn that never ends visible."""

    turn_id: str
    trace_id: str
    span_id: str
    started_at: datetime
    deadline_ms: Ms
    conversation_id: str
    service: ServiceInfo
    contract: str = CONTRACT


class TurnContent(_Value, frozen=True, kw_only=True):
    """What a person wrote and read. Recorded only where content capture is on; bounded in size before it is recorded."""

    prompt: str
    answer: str


class TurnDone(_Value, frozen=True, kw_only=True):
    """Body of the `turn.done` record: the terminal as persisted. Exactly one of `done` and `error` is set.

    `done.answer` is empty here; its length in characters is `answer_chars` and its text is in `content`, where capture is on.
    """

    turn_id: str
    trace_id: str
    span_id: str
    ended_at: datetime
    terminal: Literal["done", "error"]
    answer_chars: Count = 0
    done: DoneMetadata | None = None
    error: ErrorMetadata | None = None
    error_code: str | None = None
    error_message: str | None = None
    retryable: bool | None = None
    content: TurnContent | None = None


class TurnRequest(_Value, frozen=True, kw_only=True):
    """Body of `POST /v1/turns`. Unknown fields are ignored."""

    message: str
    conversation_id: str | None = None
    route: str | None = None
    model_tier: str | None = None
    deadline_ms: Annotated[int, Meta(ge=1)] | None = None
    on_disconnect: OnDisconnect = "continue"
    metadata: dict[str, str] = field(default_factory=dict)
