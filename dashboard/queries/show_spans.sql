-- The turn's spans, in the order in which they started.
SELECT name, duration_ms, status
FROM spans
WHERE turn_id = $turn_id
ORDER BY start_ns;
