-- How long do people wait for the first token, by route and tier?
SELECT concat_ws(' ', route, model_tier) AS place, quantile_cont(first_token_ms, 0.95) AS p95_ms, median(first_token_ms) AS p50_ms, count(*) AS turns
FROM turns
WHERE first_token_ms IS NOT NULL
GROUP BY ALL
ORDER BY p95_ms DESC
