"""The one table of names: what other conventions call the things that a span's row has columns for. Data only.

Knows nothing of rows or of protobuf: `collector.receive.meaning` reads it, and docs/otlp.md is generated from it. Invariant: where a span bears several names of one
column, the one that stands first here and can be read wins, so the order within a column is part of the table.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from lastword import names


class Read(StrEnum):
    """How a value is read."""

    TEXT = "text"
    COUNT = "a number of tokens"
    OPERATION = "a kind of span"
    LAST = "text, or the last of a list"
    SECONDS = "seconds"
    MILLISECONDS = "milliseconds"
    SECONDS_OR_MS = "seconds with a fraction, or whole milliseconds"
    SECONDS_OR_NS = "seconds with a fraction, or whole nanoseconds"
    MOMENT = "a moment, as ISO 8601"
    EVENT = "the moment of the event"


class Alias(Struct, frozen=True):
    """A name of an attribute or, where `event` is set, of an event. `inside` are the keys to look under where the value is a JSON object."""

    column: str
    name: str
    whose: str
    read: Read = Read.TEXT
    inside: tuple[str, ...] = ()
    event: bool = False


_OTEL, _OLDER, _INFERENCE, _LANGFUSE = "OpenTelemetry GenAI", "older GenAI", "OpenInference", "Langfuse"
_VERCEL, _TRACELOOP, _LOGFIRE = "Vercel AI SDK", "OpenLLMetry", "Logfire, Pydantic AI"
_LANGFUSE_USAGE = "langfuse.observation.usage_details"


def _aliases(column: str, read: Read, *rows: tuple[str, str]) -> tuple[Alias, ...]:
    return tuple(Alias(column, name, whose, read) for name, whose in rows)


ALIASES: tuple[Alias, ...] = (
    *_aliases(
        "operation",
        Read.OPERATION,
        (names.GEN_AI_OPERATION, _OTEL),
        (names.OPENINFERENCE_KIND, _INFERENCE),
        ("langfuse.observation.type", _LANGFUSE),
        ("ai.operationId", _VERCEL),
        ("traceloop.span.kind", _TRACELOOP),
        ("llm.request.type", _TRACELOOP),
    ),
    *_aliases(
        "provider",
        Read.TEXT,
        (names.GEN_AI_PROVIDER, _OTEL),
        ("gen_ai.system", _OLDER),
        ("llm.provider", _INFERENCE),
        ("llm.system", _INFERENCE),
        ("ai.model.provider", _VERCEL),
        ("llm.vendor", _TRACELOOP),
    ),
    *_aliases(
        "model",
        Read.TEXT,
        (names.GEN_AI_RESPONSE_MODEL, _OTEL),
        ("llm.response.model_name", _INFERENCE),
        ("ai.response.model", _VERCEL),
        ("llm.response.model", _TRACELOOP),
        ("langfuse.observation.model.name", _LANGFUSE),
        ("llm.model_name", _INFERENCE),
        (names.GEN_AI_REQUEST_MODEL, _OTEL),
        ("llm.request.model_name", _INFERENCE),
        ("ai.model.id", _VERCEL),
        ("llm.request.model", _TRACELOOP),
        ("embedding.model_name", _INFERENCE),
    ),
    *_aliases(
        "conversation_id",
        Read.TEXT,
        (names.GEN_AI_CONVERSATION_ID, _OTEL),
        (names.SESSION_ID, f"{_INFERENCE}, {_LANGFUSE}"),
        ("langfuse.session.id", _LANGFUSE),
        ("ai.telemetry.metadata.sessionId", _VERCEL),
        ("ai.telemetry.metadata.conversationId", _VERCEL),
        ("traceloop.association.properties.session_id", _TRACELOOP),
        ("traceloop.association.properties.conversation_id", _TRACELOOP),
        ("traceloop.association.properties.chat_id", _TRACELOOP),
        ("langsmith.trace.session_id", "LangSmith"),
    ),
    *_aliases(
        "tool_name",
        Read.TEXT,
        (names.GEN_AI_TOOL_NAME, _OTEL),
        ("tool.name", _INFERENCE),
        ("ai.toolCall.name", _VERCEL),
        ("traceloop.entity.name", _TRACELOOP),
    ),
    *_aliases(
        "input_tokens",
        Read.COUNT,
        (names.GEN_AI_INPUT_TOKENS, _OTEL),
        ("gen_ai.usage.prompt_tokens", _OLDER),
        ("llm.token_count.prompt", _INFERENCE),
        ("ai.usage.inputTokens", _VERCEL),
        ("ai.usage.promptTokens", _VERCEL),
        ("llm.usage.prompt_tokens", _TRACELOOP),
    ),
    Alias("input_tokens", _LANGFUSE_USAGE, _LANGFUSE, Read.COUNT, ("input", "input_tokens", "prompt_tokens", "promptTokens")),
    *_aliases(
        "output_tokens",
        Read.COUNT,
        (names.GEN_AI_OUTPUT_TOKENS, _OTEL),
        ("gen_ai.usage.completion_tokens", _OLDER),
        ("llm.token_count.completion", _INFERENCE),
        ("ai.usage.outputTokens", _VERCEL),
        ("ai.usage.completionTokens", _VERCEL),
        ("llm.usage.completion_tokens", _TRACELOOP),
    ),
    Alias(
        "output_tokens",
        _LANGFUSE_USAGE,
        _LANGFUSE,
        Read.COUNT,
        ("output", "output_tokens", "completion_tokens", "completionTokens"),
    ),
    *_aliases(
        "cache_read_tokens",
        Read.COUNT,
        (names.GEN_AI_CACHE_READ_TOKENS, _OTEL),
        ("gen_ai.usage.cache_read_input_tokens", _TRACELOOP),
        ("gen_ai.usage.details.cache_read_tokens", _LOGFIRE),
        ("gen_ai.usage.details.cache_read_input_tokens", _LOGFIRE),
        ("llm.token_count.prompt_details.cache_read", _INFERENCE),
        ("ai.usage.cachedInputTokens", _VERCEL),
        ("llm.usage.cache_read_input_tokens", _TRACELOOP),
    ),
    Alias(
        "cache_read_tokens",
        _LANGFUSE_USAGE,
        _LANGFUSE,
        Read.COUNT,
        ("cache_read_input_tokens", "input_cached_tokens", "cacheRead"),
    ),
    *_aliases(
        "cache_write_tokens",
        Read.COUNT,
        ("gen_ai.usage.cache_creation.input_tokens", _OTEL),
        (names.GEN_AI_CACHE_WRITE_TOKENS, "Lastword"),
        ("gen_ai.usage.cache_creation_input_tokens", _TRACELOOP),
        ("gen_ai.usage.details.cache_write_tokens", _LOGFIRE),
        ("gen_ai.usage.details.cache_creation_input_tokens", _LOGFIRE),
        ("llm.token_count.prompt_details.cache_write", _INFERENCE),
        ("llm.usage.cache_creation_input_tokens", _TRACELOOP),
    ),
    Alias("cache_write_tokens", _LANGFUSE_USAGE, _LANGFUSE, Read.COUNT, ("cache_creation_input_tokens", "cacheWrite")),
    *_aliases(
        "finish_reason",
        Read.LAST,
        (names.GEN_AI_FINISH_REASONS, _OTEL),
        ("gen_ai.response.finish_reason", _TRACELOOP),
        ("gen_ai.response.stop_reason", _TRACELOOP),
        ("llm.finish_reason", _INFERENCE),
        ("ai.response.finishReason", _VERCEL),
        ("llm.response.finish_reason", _TRACELOOP),
        ("llm.response.stop_reason", _TRACELOOP),
        ("gen_ai.completion.0.finish_reason", _TRACELOOP),
    ),
    Alias("first_token_ms", names.GEN_AI_TIME_TO_FIRST_CHUNK, _OTEL, Read.SECONDS),
    Alias("first_token_ms", "gen_ai.response.time_to_first_token", _OLDER, Read.SECONDS_OR_NS),
    Alias("first_token_ms", "gen_ai.response.time_to_first_token_ms", _OLDER, Read.MILLISECONDS),
    Alias("first_token_ms", "gen_ai.server.time_to_first_token", "OpenLIT, Strands", Read.SECONDS_OR_MS),
    Alias("first_token_ms", "gen_ai.latency.time_to_first_token", "vLLM, SGLang", Read.SECONDS),
    Alias("first_token_ms", "ai.response.msToFirstChunk", _VERCEL, Read.MILLISECONDS),
    Alias("first_token_ms", names.LANGFUSE_COMPLETION_START, _LANGFUSE, Read.MOMENT),
    Alias("first_token_ms", "llm.latency.time_to_first_token", _INFERENCE, Read.SECONDS),
    Alias("first_token_ms", "llm.latency.time_to_first_token_ms", _INFERENCE, Read.MILLISECONDS),
    Alias("first_token_ms", "ttft_ms", "Claude Code", Read.MILLISECONDS),
    Alias("first_token_ms", "ai.stream.firstChunk", _VERCEL, Read.EVENT, event=True),
    Alias("first_token_ms", "First Token Stream Event", _INFERENCE, Read.EVENT, event=True),
    Alias("first_token_ms", "llm.content.completion.chunk", _TRACELOOP, Read.EVENT, event=True),
    Alias("first_token_ms", "gen_ai.content.first_token", _OLDER, Read.EVENT, event=True),
)

CHAT, AGENT, WORKFLOW, TOOL = "chat", "invoke_agent", names.OPERATION_TURN, names.OPERATION_TOOL
RETRIEVAL, EMBEDDINGS = names.OPERATION_RETRIEVAL, "embeddings"

OPERATIONS: dict[str, str] = {
    # OpenInference's kinds, Langfuse's types and OpenLLMetry's kinds share words, and mean the same by them.
    "llm": CHAT,
    "generation": CHAT,
    "completion": "text_completion",
    "tool": TOOL,
    "retriever": RETRIEVAL,
    "embedding": EMBEDDINGS,
    "agent": AGENT,
    "chain": WORKFLOW,
    "workflow": WORKFLOW,
    # Vercel: the outer span sums up what its inner spans did.
    "ai.generatetext": AGENT,
    "ai.streamtext": AGENT,
    "ai.generateobject": AGENT,
    "ai.streamobject": AGENT,
    "ai.generatetext.dogenerate": CHAT,
    "ai.streamtext.dostream": CHAT,
    "ai.generateobject.dogenerate": CHAT,
    "ai.streamobject.dostream": CHAT,
    "ai.toolcall": TOOL,
    "ai.embed.doembed": EMBEDDINGS,
    "ai.embedmany.doembed": EMBEDDINGS,
}
"""Words of others for a kind of span, in lower case, and the semantic conventions' word for it."""

OWN_OPERATIONS = frozenset(
    {CHAT, "text_completion", "generate_content", EMBEDDINGS, TOOL, RETRIEVAL, AGENT, "create_agent", WORKFLOW}
)
"""The conventions' own words. A word that is neither here nor in `OPERATIONS` says nothing: frameworks call many things spans of theirs."""

MODEL_CALLS = frozenset({CHAT, "text_completion", "generate_content"})
"""Operations that are one call of a model."""

PENDING_NAME, PENDING_VALUE = "logfire.span_type", "pending_span"
"""What marks Logfire's placeholder for a span that has begun: the real span follows when it ends."""
