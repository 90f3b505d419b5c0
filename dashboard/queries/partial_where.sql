-- One row per route and model tier: turns ended and turns broken in the window, and in the window before.
SELECT
    route,
    model_tier AS tier,
    count(*) FILTER (WHERE ended_at >= $start::TIMESTAMPTZ) AS turns,
    count(*) FILTER (WHERE broken AND ended_at >= $start::TIMESTAMPTZ) AS broken,
    count(*) FILTER (WHERE ended_at < $start::TIMESTAMPTZ) AS turns_before,
    count(*) FILTER (WHERE broken AND ended_at < $start::TIMESTAMPTZ) AS broken_before
FROM turns
WHERE
    ended_at >= $before::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
    AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
GROUP BY route, model_tier
HAVING count(*) FILTER (WHERE ended_at >= $start::TIMESTAMPTZ) > 0
ORDER BY broken DESC, turns DESC
LIMIT $limit
