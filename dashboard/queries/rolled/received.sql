-- One row per time bucket: turns that ended in it, and spans that began in it. What was received late counts where it belongs, not where it arrived.
SELECT bucket, sum(turns)::BIGINT AS turns, sum(spans)::BIGINT AS spans
FROM (
    SELECT ((epoch_ms(step) - epoch_ms($start::TIMESTAMPTZ)) // $bucket_ms)::INTEGER AS bucket, sum(n) AS turns, 0 AS spans
    FROM turn_steps
    WHERE step >= $start::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
    GROUP BY 1
    UNION ALL
    SELECT ((epoch_ms(started_at) - epoch_ms($start::TIMESTAMPTZ)) // $bucket_ms)::INTEGER AS bucket, 0 AS turns, count(*) AS spans
    FROM spans
    WHERE started_at >= $start::TIMESTAMPTZ AND started_at < $end::TIMESTAMPTZ
    GROUP BY 1
)
GROUP BY bucket
ORDER BY bucket
