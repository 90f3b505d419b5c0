-- One row: how whole the window's data is. Turns that were accepted and lost, turns closed by recovery after a crash, records whose trace never came (its root span
-- did not), turns that are known by their spans alone, and turns that run now.
SELECT
    count(*) AS turns,
    count(*) FILTER (WHERE terminal = 'abandoned') AS lost,
    count(*) FILTER (WHERE recovered) AS recovered,
    count(*) FILTER (WHERE origin = 'spans') AS of_spans,
    count(*) FILTER (
        WHERE origin = 'record' AND terminal <> 'abandoned' AND turn_id NOT IN (
            SELECT turn_id
            FROM turn_roots
            WHERE step >= $start::TIMESTAMPTZ - INTERVAL 65 MINUTE AND step < $end::TIMESTAMPTZ
        )
    ) AS without_trace,
    (SELECT count(*) FROM open_turns) AS open_now
FROM turns
WHERE ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
