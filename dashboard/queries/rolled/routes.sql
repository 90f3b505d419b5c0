-- As `routes`, for windows of whole steps. Quantiles are the middle of an eighth of an octave: at most 4.4% off.
WITH counted AS (
    SELECT
        coalesce(route, '(none)') AS path,
        floor((epoch_ms(step) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS place,
        sum(n)::BIGINT AS turns,
        sum(broken)::BIGINT AS broken
    FROM turn_steps
    WHERE
        step >= $start::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
        AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
        AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
        AND ($status::VARCHAR IS NULL OR status = $status)
    GROUP BY GROUPING SETS ((path, place), (path))
),

sized AS (
    SELECT
        coalesce(route, '(none)') AS path,
        floor((epoch_ms(step) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS place,
        bucket AS size,
        sum(n)::BIGINT AS n
    FROM stage_steps
    WHERE
        stage = 'firstToken'
        AND step >= $start::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
        AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
        AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
        AND ($status::VARCHAR IS NULL OR status = $status)
    GROUP BY GROUPING SETS ((path, place, size), (path, size))
),

ranked AS (
    SELECT
        path, place,
        CASE WHEN size < 0 THEN 0 ELSE pow(2, (size + 0.5) / 8) END AS ms,
        sum(n) OVER (PARTITION BY path, place ORDER BY size) AS upto,
        sum(n) OVER (PARTITION BY path, place) AS whole
    FROM sized
),

quantiles AS (
    SELECT path, place, min(ms) FILTER (WHERE upto >= 0.95 * whole) AS first_token_p95_ms
    FROM ranked
    GROUP BY path, place
)

SELECT
    counted.path AS route,
    counted.place AS bucket,
    counted.turns,
    counted.broken,
    quantiles.first_token_p95_ms
FROM counted
LEFT JOIN quantiles ON counted.path = quantiles.path AND counted.place IS NOT DISTINCT FROM quantiles.place
ORDER BY counted.path, counted.place NULLS FIRST
