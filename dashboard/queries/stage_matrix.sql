-- One row per stage and time bucket of the window and of the window before (whose buckets are negative): in how many turns it ran, and its 95th percentile.
WITH scope AS (
    SELECT
        floor((epoch_ms(ended_at) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS bucket,
        auth_ms,
        precheck_ms,
        conversation_context_ms,
        route_ms,
        retrieval_ms,
        agent_setup_ms,
        model_wait_ms,
        stream_ms,
        post_process_ms,
        finalize_ms,
        first_token_ms,
        total_ms
    FROM turns
    WHERE
        ended_at >= $before::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
        AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
        AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
        AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
),

long AS (
    UNPIVOT scope
    ON auth_ms, precheck_ms, conversation_context_ms, route_ms, retrieval_ms, agent_setup_ms, model_wait_ms, stream_ms, post_process_ms, finalize_ms, first_token_ms, total_ms
    INTO NAME stage VALUE ms
)

SELECT stage, bucket, count(*) AS turns, quantile_cont(ms, 0.95) AS p95_ms
FROM long
GROUP BY ALL
ORDER BY stage, bucket
