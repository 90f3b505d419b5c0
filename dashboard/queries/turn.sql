-- One row: everything that the turn's terminal said, and whether the turn broke.
SELECT *
FROM turns
WHERE turn_id = $turn_id
LIMIT 1
