-- As `partial_ends`, for windows of whole steps.
SELECT
    CASE WHEN step >= $start::TIMESTAMPTZ THEN 'now' ELSE 'before' END AS period,
    ending,
    sum(n)::BIGINT AS turns
FROM turn_steps
WHERE
    ending <> 'left'
    AND step >= $before::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
    AND ($status::VARCHAR IS NULL OR status = $status)
GROUP BY ALL
ORDER BY period DESC, turns DESC
