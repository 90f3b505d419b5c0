-- As `filters`, since the begin of a step.
SELECT route, tier AS model_tier, sum(n)::BIGINT AS turns
FROM turn_steps
WHERE step >= $since::TIMESTAMPTZ
GROUP BY ALL
ORDER BY turns DESC
LIMIT $limit
