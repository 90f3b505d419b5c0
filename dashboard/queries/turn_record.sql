-- One row: the record of a turn's terminal, as it came.
SELECT record
FROM turns
WHERE turn_id = $turn_id AND ended_at = $ended_at::TIMESTAMPTZ
LIMIT 1
