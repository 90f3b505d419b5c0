-- Which tools come back with nothing, and how long does that take?
SELECT name || ' ' || outcome AS call, count(*) AS calls, quantile_cont(duration_ms, 0.95) AS p95_ms
FROM turn_tools
GROUP BY ALL
ORDER BY calls DESC
