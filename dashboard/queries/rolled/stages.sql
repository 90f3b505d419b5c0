-- As `stages`, for windows of whole steps. Quantiles are the middle of an eighth of an octave: at most 4.4% off.
WITH sized AS (
    SELECT
        CASE WHEN step >= $start::TIMESTAMPTZ THEN 'now' ELSE 'before' END AS period,
        stage,
        bucket AS size,
        sum(n)::BIGINT AS n,
        sum(ms)::BIGINT AS spent
    FROM stage_steps
    WHERE
        stage <> 'unaccounted'
        AND step >= $before::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
        AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
        AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
        AND ($status::VARCHAR IS NULL OR status = $status)
    GROUP BY ALL
),

ranked AS (
    SELECT
        period, stage,
        n,
        spent,
        CASE WHEN size < 0 THEN 0 ELSE pow(2, (size + 0.5) / 8) END AS ms,
        sum(n) OVER (PARTITION BY period, stage ORDER BY size) AS upto,
        sum(n) OVER (PARTITION BY period, stage) AS whole
    FROM sized
)

SELECT
    period,
    lower(regexp_replace(stage, '([A-Z])', '_\1', 'g')) || '_ms' AS stage,
    sum(n)::BIGINT AS turns,
    min(ms) FILTER (WHERE upto >= 0.5 * whole) AS p50_ms,
    min(ms) FILTER (WHERE upto >= 0.95 * whole) AS p95_ms,
    sum(spent)::DOUBLE / nullif(sum(sum(spent)) FILTER (WHERE ranked.stage = 'total') OVER (PARTITION BY period), 0) AS share
FROM ranked
GROUP BY period, ranked.stage
ORDER BY period DESC, stage
