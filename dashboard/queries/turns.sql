-- One row per ended turn, for the list on the Overview. `$pick` is newest, slowest or broken.
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
WHERE
    ($pick <> 'broken' OR broken)
    AND ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
    AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
ORDER BY CASE WHEN $pick = 'slowest' THEN total_ms END DESC NULLS LAST, ended_at DESC, turn_id
LIMIT $limit
