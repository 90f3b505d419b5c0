-- One row per time bucket of the window, and one for each of the two windows as a whole (bucket is null): how many turns ended,
-- how many of them broke or were left by their reader, and how long people waited. `period` is 'now' or 'before'.
SELECT
    CASE WHEN ended_at >= $start::TIMESTAMPTZ THEN 'now' ELSE 'before' END AS period,
    floor((epoch_ms(ended_at) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS bucket,
    count(*) AS turns,
    count(*) FILTER (WHERE broken) AS broken,
    count(*) FILTER (WHERE client_left) AS client_left,
    quantile_cont(first_token_ms, 0.95) AS first_token_p95_ms,
    quantile_cont(total_ms, 0.95) AS total_p95_ms
FROM turns
WHERE
    ended_at >= $before::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
    AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
GROUP BY GROUPING SETS ((period, bucket), (period))
HAVING period = 'now' OR bucket IS NULL
ORDER BY period DESC, bucket NULLS FIRST
