-- One row per span of a turn, in the order in which they started: at most an hour before the turn began by the clock of its service.
SELECT
    span_id,
    parent_span_id,
    name,
    kind,
    status,
    status_message,
    start_ns,
    duration_ns,
    attributes,
    events
FROM spans
WHERE
    turn_id = $turn_id
    AND started_at >= coalesce($started_at::TIMESTAMPTZ, $ended_at::TIMESTAMPTZ) - INTERVAL 1 HOUR AND started_at <= $ended_at::TIMESTAMPTZ + INTERVAL 1 HOUR
ORDER BY start_ns, duration_ns DESC, span_id
LIMIT $limit
