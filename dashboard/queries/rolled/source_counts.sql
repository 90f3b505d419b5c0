-- As `source_counts`, for windows of whole steps.
SELECT
    coalesce(route, '(none)') AS route,
    value::INTEGER AS sources_count,
    sum(turns)::BIGINT AS turns
FROM source_steps
WHERE
    kind = 'count'
    AND step >= $start::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
    AND ($status::VARCHAR IS NULL OR status = $status)
GROUP BY 1, 2
ORDER BY 1, 2
