-- One row per route and model tier that ended a turn since $since: what the filters offer.
SELECT route, model_tier, count(*) AS turns
FROM turns
WHERE ended_at >= $since::TIMESTAMPTZ
GROUP BY ALL
ORDER BY turns DESC
LIMIT $limit
