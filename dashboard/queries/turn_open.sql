-- One row: a turn that was accepted and has no terminal yet.
SELECT turn_id, trace_id, started_at, deadline_ms
FROM open_turns
WHERE turn_id = $turn_id
LIMIT 1
