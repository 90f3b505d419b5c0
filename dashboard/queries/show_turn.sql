-- The turn itself, then its spans in the order in which they started.
FROM turns WHERE turn_id = $turn_id;

SELECT name, duration_ms, status
FROM spans
WHERE turn_id = $turn_id
ORDER BY start_ns;
