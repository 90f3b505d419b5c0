-- One row per source of a turn, in the order of first evidence.
SELECT n, url, title, publisher, origins, score
FROM turn_sources
WHERE turn_id = $turn_id AND ended_at = $ended_at::TIMESTAMPTZ
ORDER BY n
LIMIT $limit
