-- One row: when a turn began and ended, so that everything else of it is looked for in that time alone.
SELECT started_at, ended_at
FROM turns
WHERE turn_id = $turn_id
LIMIT 1
