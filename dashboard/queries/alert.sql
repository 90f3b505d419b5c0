-- One row: an alert with its explanation.
SELECT *
FROM alerts
WHERE alert_id = $alert_id
LIMIT 1
