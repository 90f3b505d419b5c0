-- As `partials`, for windows of whole steps.
SELECT
    floor((epoch_ms(step) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS bucket,
    coalesce(reason, terminal) AS reason,
    broke_in AS stage,
    sum(broken)::BIGINT AS turns
FROM turn_steps
WHERE
    broken > 0
    AND step >= $start::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
    AND ($status::VARCHAR IS NULL OR status = $status)
GROUP BY 1, 2, 3
ORDER BY bucket, turns DESC
