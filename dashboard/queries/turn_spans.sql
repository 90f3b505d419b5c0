-- One row per span of a turn, in the order in which they started.
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
WHERE turn_id = $turn_id
ORDER BY start_ns, duration_ns DESC, span_id
LIMIT $limit
