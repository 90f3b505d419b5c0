-- One row per tool and period, one per bucket and period, and one per period (name and bucket are null): calls by what they came to.
-- A call counts as "with results" only where it returned usable evidence.
SELECT
    CASE WHEN ended_at >= $start::TIMESTAMPTZ THEN 'now' ELSE 'before' END AS period,
    floor((epoch_ms(ended_at) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS bucket,
    name,
    count(*) AS calls,
    count(*) FILTER (WHERE outcome = 'results') AS results,
    count(*) FILTER (WHERE outcome = 'empty') AS empty,
    count(*) FILTER (WHERE outcome = 'error') AS error,
    count(*) FILTER (WHERE outcome = 'timeout') AS timeout,
    quantile_cont(duration_ms, 0.95) AS duration_p95_ms
FROM turn_tools
WHERE
    ended_at >= $before::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND (
        ($tier::VARCHAR IS NULL AND $status::VARCHAR IS NULL)
        OR turn_id IN (
            SELECT turn_id
            FROM turns
            WHERE
                ended_at >= $before::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
                AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
                AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
                AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
        )
    )
GROUP BY GROUPING SETS ((period, name), (period, bucket), (period))
HAVING period = 'now' OR (bucket IS NULL AND name IS NULL)
ORDER BY period DESC, calls DESC
