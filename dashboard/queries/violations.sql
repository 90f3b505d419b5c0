-- One row per rule of the contract that turns of the window break: how often, in how many turns, and one of them.
SELECT rule, count(*) AS places, count(DISTINCT turn_id) AS turns, max(detail) AS detail, arg_max(turn_id, ended_at) AS turn_id
FROM violations
WHERE ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
GROUP BY rule
ORDER BY places DESC, rule
LIMIT $limit
