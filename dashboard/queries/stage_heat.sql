-- One row per time bucket and size of a stage's time: how many turns took so long. `size` is floor(4 * log2(ms)), -1 below a millisecond. The rows without a size hold
-- the quantiles of their bucket; the one without a bucket, those of the whole window.
SELECT
    floor((epoch_ms(ended_at) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS bucket,
    CASE WHEN ms < 1 THEN -1 ELSE floor(4 * log2(ms)) END::INTEGER AS size,
    count(*) AS turns,
    quantile_cont(ms, 0.5) AS p50_ms,
    quantile_cont(ms, 0.95) AS p95_ms,
    quantile_cont(ms, 0.99) AS p99_ms
FROM (
    SELECT
        ended_at,
        CASE $stage
            WHEN 'auth_ms' THEN auth_ms
            WHEN 'precheck_ms' THEN precheck_ms
            WHEN 'conversation_context_ms' THEN conversation_context_ms
            WHEN 'route_ms' THEN route_ms
            WHEN 'retrieval_ms' THEN retrieval_ms
            WHEN 'agent_setup_ms' THEN agent_setup_ms
            WHEN 'model_wait_ms' THEN model_wait_ms
            WHEN 'stream_ms' THEN stream_ms
            WHEN 'post_process_ms' THEN post_process_ms
            WHEN 'finalize_ms' THEN finalize_ms
            WHEN 'first_token_ms' THEN first_token_ms
            WHEN 'total_ms' THEN total_ms
        END AS ms
    FROM turns
    WHERE
        ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
        AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
        AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
        AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
)
WHERE ms IS NOT NULL
GROUP BY GROUPING SETS ((bucket, size), (bucket), ())
ORDER BY bucket NULLS FIRST, size NULLS FIRST
