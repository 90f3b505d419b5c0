-- One row per route and stage: the stage's share of all the time that the route's turns took. `unaccounted` is what no stage claims.
SELECT
    coalesce(route, '(none)') AS route,
    stage,
    any_value(position) AS position,
    count(DISTINCT turn_id) AS turns,
    sum(ms)::DOUBLE / nullif(sum(sum(ms)) OVER (PARTITION BY coalesce(route, '(none)')), 0) AS share
FROM turn_stages
WHERE
    ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
    AND (
        $status::VARCHAR IS NULL
        OR turn_id IN (
            SELECT turn_id
            FROM turns
            WHERE
                ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
                AND coalesce(completion_status, terminal) = $status
        )
    )
GROUP BY coalesce(route, '(none)'), stage
ORDER BY route, position
