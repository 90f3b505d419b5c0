-- One row per time bucket, reason and stage: how many turns broke then, why, and in which stage. The stage is the last one that has a time before the answer
-- was settled: once text is visible that is the stream. It is null for a turn that was lost, which has no record to say so.
SELECT
    floor((epoch_ms(ended_at) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS bucket,
    coalesce(reason, terminal) AS reason,
    CASE
        WHEN terminal = 'abandoned' THEN NULL
        WHEN first_token_ms IS NOT NULL THEN 'stream_ms'
        WHEN model_wait_ms IS NOT NULL THEN 'model_wait_ms'
        WHEN agent_setup_ms IS NOT NULL THEN 'agent_setup_ms'
        WHEN retrieval_ms IS NOT NULL THEN 'retrieval_ms'
        WHEN route_ms IS NOT NULL THEN 'route_ms'
        WHEN conversation_context_ms IS NOT NULL THEN 'conversation_context_ms'
        WHEN precheck_ms IS NOT NULL THEN 'precheck_ms'
        WHEN auth_ms IS NOT NULL THEN 'auth_ms'
    END AS stage,
    count(*) AS turns
FROM turns
WHERE
    broken
    AND ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
    AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
GROUP BY ALL
ORDER BY bucket, turns DESC
