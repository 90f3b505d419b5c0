-- One row per place where sources were evidenced, and one for all (origin is null): sources, and turns that have such a source. A source may be evidenced in several.
SELECT origin, count(*) AS sources, count(DISTINCT turn_id) AS turns
FROM (
    SELECT turn_id, unnest(list_append(list_distinct(coalesce(origins, [])), NULL)) AS origin
    FROM turn_sources
    WHERE
        ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
        AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
        AND (
            ($tier::VARCHAR IS NULL AND $status::VARCHAR IS NULL)
            OR turn_id IN (
                SELECT turn_id
                FROM turns
                WHERE
                    ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
                    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
                    AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
                    AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
            )
        )
)
GROUP BY origin
ORDER BY sources DESC
