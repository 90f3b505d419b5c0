"""Names of spans, attributes and log records: the words of telemetry, in one place.

The GenAI names follow the OpenTelemetry semantic conventions for generative AI; everything of our own stands under `lastword.`.
Constants only.
"""

from __future__ import annotations

from typing import Final

# --- spans, in the order of the machine
SPAN_TURN: Final = "turn"
SPAN_AUTH: Final = "turn.auth"
SPAN_PRECHECK: Final = "turn.precheck"
SPAN_CONTEXT: Final = "turn.context"
SPAN_ROUTE: Final = "turn.route"
SPAN_RETRIEVAL: Final = "retrieval"  # followed by the data source
SPAN_AGENT_SETUP: Final = "turn.agent_setup"
SPAN_ATTEMPT: Final = "turn.attempt"
SPAN_CHAT: Final = "chat"  # followed by the model
SPAN_EXECUTE_TOOL: Final = "execute_tool"  # followed by the tool
SPAN_STREAM: Final = "turn.stream"
SPAN_POST_PROCESS: Final = "turn.post_process"
SPAN_FINALIZE: Final = "turn.finalize"
SPAN_DELIVER: Final = "turn.deliver"

# --- span events
EVENT_FIRST_CHUNK: Final = "first_visible_chunk"
EVENT_RETRY: Final = "retry"
EVENT_DEGRADE: Final = "degrade"
EVENT_FALLBACK: Final = "fallback"

# --- log records
RECORD_ACCEPTED: Final = "turn.accepted"
RECORD_DONE: Final = "turn.done"

# --- GenAI semantic conventions
GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_RESPONSE_MODEL: Final = "gen_ai.response.model"
GEN_AI_RESPONSE_ID: Final = "gen_ai.response.id"
GEN_AI_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
GEN_AI_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"  # seconds
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
GEN_AI_CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
GEN_AI_CONVERSATION_ID: Final = "gen_ai.conversation.id"
GEN_AI_TOOL_NAME: Final = "gen_ai.tool.name"
GEN_AI_TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
GEN_AI_DATA_SOURCE_ID: Final = "gen_ai.data_source.id"
GEN_AI_RETRIEVAL_TOP_K: Final = "gen_ai.retrieval.top_k"
ERROR_TYPE: Final = "error.type"

OPERATION_TURN: Final = "invoke_workflow"
OPERATION_CHAT: Final = "chat"
OPERATION_TOOL: Final = "execute_tool"
OPERATION_RETRIEVAL: Final = "retrieval"

# --- names that other backends read
OPENINFERENCE_KIND: Final = "openinference.span.kind"
SESSION_ID: Final = "session.id"
LANGFUSE_COMPLETION_START: Final = "langfuse.observation.completion_start_time"

# --- ours
TURN_ID: Final = "lastword.turn.id"
TURN_ROUTE: Final = "lastword.turn.route"
TURN_MODEL_TIER: Final = "lastword.turn.model_tier"
TURN_COMPLETION_STATUS: Final = "lastword.turn.completion_status"
TURN_PARTIAL: Final = "lastword.turn.partial"
TURN_REASON: Final = "lastword.turn.reason"
TURN_VISIBLE: Final = "lastword.turn.visible"
TURN_FIRST_TOKEN_MS: Final = "lastword.turn.first_token_ms"
TURN_TOTAL_MS: Final = "lastword.turn.total_ms"
TURN_STAGE: Final = "lastword.turn.stage"
ATTEMPT_NUMBER: Final = "lastword.attempt.number"
ATTEMPT_OUTCOME: Final = "lastword.attempt.outcome"
TOOL_HAS_RESULTS: Final = "lastword.tool.has_results"
TOOL_OUTCOME: Final = "lastword.tool.outcome"
SOURCES_COUNT: Final = "lastword.sources.count"
RETRIEVAL_HITS: Final = "lastword.retrieval.hits"
VIEWER_DELIVERED_SEQ: Final = "lastword.viewer.delivered_seq"
VIEWER_DISCONNECTED: Final = "lastword.viewer.disconnected"
VIEWER_RESUMED_FROM: Final = "lastword.viewer.resumed_from"
