-- One row per incident that fires now, pages first: what happened, and since when.
SELECT alert_id, rule, severity, since_at, summary
FROM alerts
WHERE state = 'firing' AND role = 'root'
ORDER BY severity, fired_at DESC
LIMIT $limit
