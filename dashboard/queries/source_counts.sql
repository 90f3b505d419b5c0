-- One row per route and number of sources, for turns that were answered: how many turns rest on that many sources.
SELECT
    coalesce(route, '(none)') AS route,
    sources_count,
    count(*) AS turns
FROM turns
WHERE
    terminal = 'done'
    AND sources_count IS NOT NULL
    AND ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
    AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
GROUP BY ALL
ORDER BY route, sources_count
