-- As `stage_matrix`, for windows of whole steps. Quantiles are the middle of an eighth of an octave: at most 4.4% off.
WITH sized AS (
    SELECT
        stage,
        floor((epoch_ms(step) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS place,
        bucket AS size,
        sum(n)::BIGINT AS n
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
        stage, place,
        n,
        CASE WHEN size < 0 THEN 0 ELSE pow(2, (size + 0.5) / 8) END AS ms,
        sum(n) OVER (PARTITION BY stage, place ORDER BY size) AS upto,
        sum(n) OVER (PARTITION BY stage, place) AS whole
    FROM sized
)

SELECT
    lower(regexp_replace(stage, '([A-Z])', '_\1', 'g')) || '_ms' AS stage,
    place AS bucket,
    sum(n)::BIGINT AS turns,
    min(ms) FILTER (WHERE upto >= 0.95 * whole) AS p95_ms
FROM ranked
GROUP BY ranked.stage, place
ORDER BY 1, place
