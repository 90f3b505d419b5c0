-- As `stage_heat`, for windows of whole steps. Quantiles are the middle of an eighth of an octave: at most 4.4% off.
WITH sized AS (
    SELECT
        floor((epoch_ms(step) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS place,
        bucket AS size,
        sum(n)::BIGINT AS n
    FROM stage_steps
    WHERE
        stage = CASE $stage
            WHEN 'auth_ms' THEN 'auth'
            WHEN 'precheck_ms' THEN 'precheck'
            WHEN 'conversation_context_ms' THEN 'conversationContext'
            WHEN 'route_ms' THEN 'route'
            WHEN 'retrieval_ms' THEN 'retrieval'
            WHEN 'agent_setup_ms' THEN 'agentSetup'
            WHEN 'model_wait_ms' THEN 'modelWait'
            WHEN 'stream_ms' THEN 'stream'
            WHEN 'post_process_ms' THEN 'postProcess'
            WHEN 'finalize_ms' THEN 'finalize'
            WHEN 'first_token_ms' THEN 'firstToken'
            WHEN 'total_ms' THEN 'total'
        END
        AND step >= $start::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
        AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
        AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
        AND ($status::VARCHAR IS NULL OR status = $status)
    GROUP BY GROUPING SETS ((place, size), (size))
),

ranked AS (
    SELECT
        place,
        CASE WHEN size < 0 THEN -1 ELSE size // 2 END AS quarter,
        n,
        CASE WHEN size < 0 THEN 0 ELSE pow(2, (size + 0.5) / 8) END AS ms,
        sum(n) OVER (PARTITION BY place ORDER BY size) AS upto,
        sum(n) OVER (PARTITION BY place) AS whole
    FROM sized
)

SELECT
    place AS bucket,
    quarter AS size,
    sum(n)::BIGINT AS turns,
    min(ms) FILTER (WHERE upto >= 0.5 * whole) AS p50_ms,
    min(ms) FILTER (WHERE upto >= 0.95 * whole) AS p95_ms,
    min(ms) FILTER (WHERE upto >= 0.99 * whole) AS p99_ms
FROM ranked
GROUP BY GROUPING SETS ((place, quarter), (place))
HAVING place IS NOT NULL OR grouping(quarter) = 1
ORDER BY place NULLS FIRST, quarter NULLS FIRST
