-- What do turns cost in tokens, by the hour?
SELECT time_bucket(INTERVAL 1 HOUR, ended_at) AS hour, sum(input_tokens + output_tokens) AS tokens, count(*) AS turns
FROM turns
GROUP BY hour
ORDER BY hour
