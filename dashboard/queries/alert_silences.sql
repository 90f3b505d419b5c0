-- One row per silence that is not over.
SELECT silence_id, rule, route, model_tier, starts_at, ends_at, comment
FROM alert_silences
WHERE ends_at > now()
ORDER BY ends_at
LIMIT $limit
