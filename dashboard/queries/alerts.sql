-- One row per alert whose episode touches the window, or that fires now; what fires first, then the newest. Route and tier are those that are watched.
SELECT
    alert_id,
    incident_id,
    rule,
    severity,
    role,
    state,
    scope,
    route,
    model_tier,
    labels,
    since_at,
    fired_at,
    resolved_at,
    why_resolved,
    window_minutes,
    turns,
    broken,
    expected,
    rate,
    rate_low,
    rate_high,
    baseline,
    evidence,
    threshold,
    recovers_below,
    value,
    summary
FROM alerts
WHERE
    state = 'firing'
    OR (since_at < $end::TIMESTAMPTZ AND coalesce(resolved_at, now()) >= $start::TIMESTAMPTZ)
ORDER BY state = 'firing' DESC, fired_at DESC, role, alert_id
LIMIT $limit
