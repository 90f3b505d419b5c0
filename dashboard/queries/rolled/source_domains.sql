-- As `source_domains`, for windows of whole steps.
WITH found AS (
    SELECT kind, value, sum(n) AS n, sum(turns) AS turns, sum(score) AS score, sum(scored) AS scored
    FROM source_steps
    WHERE
        kind IN ('host', 'address')
        AND step >= $start::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
        AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
        AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
        AND ($status::VARCHAR IS NULL OR status = $status)
    GROUP BY kind, value
),

addresses AS (
    SELECT
        coalesce(nullif(regexp_extract(value, '^[a-zA-Z][a-zA-Z0-9+.-]*://(?:[^/?#]*@)?(?:www[.])?([^/:?#]+)', 1), ''), '(none)') AS host,
        count(value) AS urls
    FROM found
    WHERE kind = 'address'
    GROUP BY host
)

SELECT
    found.value AS host,
    found.n::BIGINT AS sources,
    found.turns::BIGINT AS turns,
    addresses.urls,
    found.score / nullif(found.scored, 0) AS mean_score
FROM found
INNER JOIN addresses ON found.value = addresses.host
WHERE found.kind = 'host'
ORDER BY turns DESC, host
LIMIT $limit
