-- As `source_origins`, for windows of whole steps.
SELECT value AS origin, sum(n)::BIGINT AS sources, sum(turns)::BIGINT AS turns
FROM source_steps
WHERE
    kind = 'origin'
    AND step >= $start::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
    AND ($status::VARCHAR IS NULL OR status = $status)
GROUP BY value
ORDER BY sources DESC
