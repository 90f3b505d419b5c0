-- One row per stage and period: in how many turns it ran, its median and 95th percentile, and its share of all time spent. The marks first_token_ms and
-- total_ms count from acceptance and are listed with the stages. `period` is 'now' or 'before'.
WITH scope AS (
    SELECT
        CASE WHEN ended_at >= $start::TIMESTAMPTZ THEN 'now' ELSE 'before' END AS period,
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

SELECT
    period,
    stage,
    count(*) AS turns,
    quantile_cont(ms, 0.5) AS p50_ms,
    quantile_cont(ms, 0.95) AS p95_ms,
    sum(ms)::DOUBLE / nullif(sum(sum(ms)) FILTER (WHERE stage = 'total_ms') OVER (PARTITION BY period), 0) AS share
FROM long
GROUP BY period, stage
ORDER BY period DESC, stage
