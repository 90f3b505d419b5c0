-- One row per host of sources: sources, turns that rest on it, routes, and the mean rank score of the retrieval. The most used first.
SELECT
    coalesce(nullif(regexp_extract(url, '^[a-zA-Z][a-zA-Z0-9+.-]*://(?:[^/?#]*@)?(?:www[.])?([^/:?#]+)', 1), ''), '(none)') AS host,
    count(*) AS sources,
    count(DISTINCT turn_id) AS turns,
    count(DISTINCT url) AS urls,
    avg(score) AS mean_score
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
GROUP BY host
ORDER BY turns DESC, host
LIMIT $limit
