-- As `partial_where`, for windows of whole steps.
SELECT
    route,
    tier,
    sum(n) FILTER (WHERE step >= $start::TIMESTAMPTZ)::BIGINT AS turns,
    sum(broken) FILTER (WHERE step >= $start::TIMESTAMPTZ)::BIGINT AS broken,
    coalesce(sum(n) FILTER (WHERE step < $start::TIMESTAMPTZ), 0)::BIGINT AS turns_before,
    coalesce(sum(broken) FILTER (WHERE step < $start::TIMESTAMPTZ), 0)::BIGINT AS broken_before
FROM turn_steps
WHERE
    step >= $before::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
    AND ($status::VARCHAR IS NULL OR status = $status)
GROUP BY route, tier
HAVING sum(n) FILTER (WHERE step >= $start::TIMESTAMPTZ) > 0
ORDER BY broken DESC, turns DESC
LIMIT $limit
