-- One row per delivery of an alert's events, in order; an event that nobody was to be told has one row without a receiver.
SELECT
    event.event_id,
    event.happened_at,
    event.change,
    event.summary,
    delivery.receiver,
    delivery.state,
    delivery.attempts,
    delivery.delivered_at,
    delivery.due_at,
    delivery.error
FROM alert_events AS event
LEFT JOIN alert_deliveries AS delivery ON delivery.event_id = event.event_id
WHERE event.alert_id = $alert_id
ORDER BY event.happened_at, event.event_id, delivery.receiver
LIMIT $limit
