-- At most two rows: the turn before and the turn after in the same conversation. `side` is 'before' or 'after'.
WITH told AS MATERIALIZED (
    SELECT turn_id, started_at, route, coalesce(completion_status, terminal) AS status, broken, total_ms
    FROM turns
    WHERE conversation_id = $conversation_id
)
(
    SELECT 'before' AS side, *
    FROM told
    WHERE (started_at, turn_id) < ($started_at::TIMESTAMPTZ, $turn_id)
    ORDER BY started_at DESC, turn_id DESC
    LIMIT 1
)
UNION ALL
(
    SELECT 'after' AS side, *
    FROM told
    WHERE (started_at, turn_id) > ($started_at::TIMESTAMPTZ, $turn_id)
    ORDER BY started_at, turn_id
    LIMIT 1
)
