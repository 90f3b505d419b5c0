-- One row per turn that a search finds: a turn id or its beginning, a trace id or its beginning, or a conversation id. The newest first. What has the length of
-- a whole id is looked up as one, without reading all turns.
WITH listed AS NOT MATERIALIZED (
    SELECT
        turn_id,
        trace_id,
        conversation_id,
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
)

SELECT * EXCLUDE (trace_id, conversation_id)
FROM (
    SELECT * FROM listed
    WHERE turn_id = $needle
    UNION
    SELECT * FROM listed
    WHERE trace_id = $needle
    UNION
    SELECT * FROM listed
    WHERE conversation_id = $needle
    UNION
    SELECT * FROM listed
    WHERE length($needle) < 32 AND (starts_with(turn_id, $needle) OR starts_with(trace_id, $needle))
)
ORDER BY ended_at DESC
LIMIT $limit
