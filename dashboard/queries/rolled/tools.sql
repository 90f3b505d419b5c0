-- As `tools`, for windows of whole steps. Quantiles are the middle of an eighth of an octave: at most 4.4% off.
WITH scope AS (
    SELECT
        CASE WHEN step >= $start::TIMESTAMPTZ THEN 'now' ELSE 'before' END AS period,
        floor((epoch_ms(step) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS place,
        name,
        outcome,
        bucket AS size,
        sum(n)::BIGINT AS n
    FROM tool_steps
    WHERE
        step >= $before::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
        AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
        AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
        AND ($status::VARCHAR IS NULL OR status = $status)
    GROUP BY ALL
),

counted AS (
    SELECT
        period,
        place,
        name,
        grouping(place) AS all_places,
        grouping(name) AS all_names,
        sum(n)::BIGINT AS calls,
        coalesce(sum(n) FILTER (WHERE outcome = 'results'), 0)::BIGINT AS results,
        coalesce(sum(n) FILTER (WHERE outcome = 'empty'), 0)::BIGINT AS empty,
        coalesce(sum(n) FILTER (WHERE outcome = 'error'), 0)::BIGINT AS error,
        coalesce(sum(n) FILTER (WHERE outcome = 'timeout'), 0)::BIGINT AS timeout
    FROM scope
    GROUP BY GROUPING SETS ((period, name), (period, place), (period))
),

sized AS (
    SELECT period, place, name, grouping(place) AS all_places, grouping(name) AS all_names, size, sum(n)::BIGINT AS n
    FROM scope
    WHERE size IS NOT NULL
    GROUP BY GROUPING SETS ((period, name, size), (period, place, size), (period, size))
),

ranked AS (
    SELECT
        period, place, name, all_places, all_names,
        CASE WHEN size < 0 THEN 0 ELSE pow(2, (size + 0.5) / 8) END AS ms,
        sum(n) OVER (PARTITION BY period, place, name, all_places, all_names ORDER BY size) AS upto,
        sum(n) OVER (PARTITION BY period, place, name, all_places, all_names) AS whole
    FROM sized
),

quantiles AS (
    SELECT period, place, name, all_places, all_names, min(ms) FILTER (WHERE upto >= 0.95 * whole) AS duration_p95_ms
    FROM ranked
    GROUP BY ALL
)

SELECT
    counted.period,
    counted.place AS bucket,
    counted.name,
    counted.calls,
    counted.results,
    counted.empty,
    counted.error,
    counted.timeout,
    quantiles.duration_p95_ms
FROM counted
LEFT JOIN quantiles
    ON
        counted.period = quantiles.period
        AND counted.all_places = quantiles.all_places
        AND counted.all_names = quantiles.all_names
        AND counted.place IS NOT DISTINCT FROM quantiles.place
        AND counted.name IS NOT DISTINCT FROM quantiles.name
WHERE counted.period = 'now' OR (counted.place IS NULL AND counted.name IS NULL)
ORDER BY counted.period DESC, counted.calls DESC
