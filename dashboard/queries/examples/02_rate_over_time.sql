-- How did the partial rate go, in steps of ten minutes?
SELECT time_bucket(INTERVAL 10 MINUTE, ended_at) AS step, avg(broken::INT) AS partial_rate, count(*) AS turns
FROM turns
WHERE ended_at > now() - INTERVAL 24 HOUR
GROUP BY step
ORDER BY step
