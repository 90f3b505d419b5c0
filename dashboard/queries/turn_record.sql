-- One row: the record of a turn's terminal, as it came, and what it names of attempts, tool calls and sources, each in order.
SELECT record, attempt_details, tool_calls, source_details
FROM turns
WHERE turn_id = $turn_id AND ended_at = $ended_at::TIMESTAMPTZ
LIMIT 1
