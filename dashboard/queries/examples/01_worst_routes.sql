-- Which routes break most, over the last hour?
SELECT route, count(*) AS turns, count(*) FILTER (broken) AS broken, avg(broken::INT) AS partial_rate
FROM turns
WHERE ended_at > now() - INTERVAL 1 HOUR
GROUP BY route
ORDER BY partial_rate DESC
