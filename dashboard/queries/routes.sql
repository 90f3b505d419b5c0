-- One row per route and time bucket, and one per route for the whole window (bucket is null): turns ended and turns broken.
SELECT
    coalesce(route, '(none)') AS route,
    floor((epoch_ms(ended_at) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS bucket,
    count(*) AS turns,
    count(*) FILTER (WHERE broken) AS broken,
    quantile_cont(first_token_ms, 0.95) AS first_token_p95_ms
FROM turns
WHERE
    ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
    AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
GROUP BY GROUPING SETS ((coalesce(route, '(none)'), bucket), (coalesce(route, '(none)')))
ORDER BY route, bucket NULLS FIRST
