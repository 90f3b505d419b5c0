-- One row per half octave of time between the first visible token and the break: how many turns broke then. `size` is floor(2 * log2(ms)).
SELECT
    floor(2 * log2(greatest(coalesce(stream_ms, total_ms - first_token_ms), 1)))::INTEGER AS size,
    count(*) AS turns,
    quantile_cont(coalesce(stream_ms, total_ms - first_token_ms), 0.5) AS p50_ms
FROM turns
WHERE
    broken
    AND first_token_ms IS NOT NULL
    AND ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
    AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
GROUP BY GROUPING SETS ((size), ())
ORDER BY size NULLS FIRST
