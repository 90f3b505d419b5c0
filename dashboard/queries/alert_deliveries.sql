-- One row per receiver and state of the deliveries that were queued in the window, or wait still: how many, and the last error.
SELECT
    receiver,
    state,
    count(*) AS deliveries,
    max(queued_at) AS newest,
    arg_max(error, queued_at) FILTER (WHERE error IS NOT NULL) AS last_error
FROM alert_deliveries
WHERE state = 'waiting' OR (queued_at >= $start::TIMESTAMPTZ AND queued_at < $end::TIMESTAMPTZ)
GROUP BY receiver, state
ORDER BY receiver, state
