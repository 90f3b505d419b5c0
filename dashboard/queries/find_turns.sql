-- One row per turn that a search finds: a turn id or its beginning, a trace id, or a conversation id. The newest first.
SELECT
    turn_id,
    ended_at,
    route,
    model_tier,
    coalesce(completion_status, terminal) AS status,
    terminal,
    partial,
    broken,
    reason,
    first_token_ms,
    total_ms,
    attempts,
    sources_count
FROM turns
WHERE starts_with(turn_id, $needle) OR starts_with(trace_id, $needle) OR conversation_id = $needle
ORDER BY ended_at DESC
LIMIT $limit
