-- As `sourceless`, for windows of whole steps.
SELECT
    floor((epoch_ms(step) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS bucket,
    sum(turns)::BIGINT AS turns,
    coalesce(sum(turns) FILTER (WHERE value = '0'), 0)::BIGINT AS broken
FROM source_steps
WHERE
    kind = 'count'
    AND step >= $start::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
    AND ($status::VARCHAR IS NULL OR status = $status)
GROUP BY bucket
ORDER BY bucket
