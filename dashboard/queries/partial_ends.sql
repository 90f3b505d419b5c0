-- One row per period and kind of end, for every turn that did not go right at once: what became of it. Before the first visible token a turn can still be
-- saved, by another attempt, a cheaper tier or the safe answer; after it, what was shown is kept. `period` is 'now' or 'before'.
SELECT
    CASE WHEN ended_at >= $start::TIMESTAMPTZ THEN 'now' ELSE 'before' END AS period,
    CASE
        WHEN terminal = 'abandoned' THEN 'lost'
        WHEN broken AND first_token_ms IS NOT NULL THEN 'kept'
        WHEN broken THEN 'failed'
        WHEN fallback THEN 'fallback'
        WHEN degraded THEN 'degraded'
        WHEN attempts > 1 THEN 'retried'
    END AS ending,
    count(*) AS turns
FROM turns
WHERE
    (broken OR fallback OR degraded OR attempts > 1)
    AND NOT client_left
    AND ended_at >= $before::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
    AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
GROUP BY ALL
ORDER BY period DESC, turns DESC
