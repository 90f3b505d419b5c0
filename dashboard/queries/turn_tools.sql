-- One row per tool call of a turn, in order.
SELECT n, name, outcome, duration_ms
FROM turn_tools
WHERE turn_id = $turn_id AND ended_at = $ended_at::TIMESTAMPTZ
ORDER BY n
