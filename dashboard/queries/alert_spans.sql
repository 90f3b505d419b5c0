-- One row per incident of the partial rate that touches the window: when it began to break, and when it was over (null while it fires).
SELECT alert_id, since_at, resolved_at, summary
FROM alerts
WHERE
    rule = 'partial_rate'
    AND role = 'root'
    AND since_at < $end::TIMESTAMPTZ AND coalesce(resolved_at, now()) >= $start::TIMESTAMPTZ
ORDER BY since_at DESC
LIMIT $limit
