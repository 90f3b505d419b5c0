-- Minutes as they come, and for turns without a route a row in every minute: that there were none of them is an observation too.
INSERT INTO minutes
WITH come AS (
    SELECT minute, route, CASE WHEN route = '' THEN '' ELSE tier END AS tier, CAST(sum(n) AS BIGINT) AS n, CAST(sum(k) AS BIGINT) AS k
    FROM incoming WHERE minute BETWEEN $first AND $last GROUP BY ALL
), whole AS (
    SELECT minute, CAST(sum(n) AS BIGINT) AS n FROM come GROUP BY minute
)
SELECT c.minute, c.route, c.tier, c.n, c.k, c.n FROM come AS c WHERE c.route <> ''
UNION ALL
SELECT w.minute, '', '', coalesce(c.n, 0), coalesce(c.k, 0), w.n FROM whole AS w LEFT JOIN come AS c ON c.minute = w.minute AND c.route = ''
ORDER BY ALL;
