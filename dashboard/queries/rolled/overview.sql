-- As `overview`, for windows of whole steps. Quantiles are the middle of an eighth of an octave: at most 4.4% off.
WITH counted AS (
    SELECT
        CASE WHEN step >= $start::TIMESTAMPTZ THEN 'now' ELSE 'before' END AS period,
        floor((epoch_ms(step) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS place,
        sum(n)::BIGINT AS turns,
        sum(broken)::BIGINT AS broken,
        coalesce(sum(n) FILTER (WHERE ending = 'left'), 0)::BIGINT AS client_left
    FROM turn_steps
    WHERE
        step >= $before::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
        AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
        AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
        AND ($status::VARCHAR IS NULL OR status = $status)
    GROUP BY GROUPING SETS ((period, place), (period))
),

sized AS (
    SELECT
        CASE WHEN step >= $start::TIMESTAMPTZ THEN 'now' ELSE 'before' END AS period,
        floor((epoch_ms(step) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS place,
        stage,
        bucket AS size,
        sum(n)::BIGINT AS n
    FROM stage_steps
    WHERE
        stage IN ('firstToken', 'total')
        AND step >= $before::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
        AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
        AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
        AND ($status::VARCHAR IS NULL OR status = $status)
    GROUP BY GROUPING SETS ((period, place, stage, size), (period, stage, size))
    HAVING period = 'now' OR place IS NULL
),

ranked AS (
    SELECT
        period, place, stage,
        CASE WHEN size < 0 THEN 0 ELSE pow(2, (size + 0.5) / 8) END AS ms,
        sum(n) OVER (PARTITION BY period, place, stage ORDER BY size) AS upto,
        sum(n) OVER (PARTITION BY period, place, stage) AS whole
    FROM sized
),

quantiles AS (
    SELECT
        period,
        place,
        min(ms) FILTER (WHERE stage = 'firstToken' AND upto >= 0.95 * whole) AS first_token_p95_ms,
        min(ms) FILTER (WHERE stage = 'total' AND upto >= 0.95 * whole) AS total_p95_ms
    FROM ranked
    GROUP BY period, place
)

SELECT
    counted.period,
    counted.place AS bucket,
    counted.turns,
    counted.broken,
    counted.client_left,
    quantiles.first_token_p95_ms,
    quantiles.total_p95_ms
FROM counted
LEFT JOIN quantiles ON counted.period = quantiles.period AND counted.place IS NOT DISTINCT FROM quantiles.place
WHERE counted.period = 'now' OR counted.place IS NULL
ORDER BY counted.period DESC, counted.place NULLS FIRST
