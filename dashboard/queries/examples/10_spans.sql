-- Which kinds of span take how long?
SELECT split_part(name, ' ', 1) AS span, count(*) AS spans, median(duration_ms) AS p50_ms, quantile_cont(duration_ms, 0.95) AS p95_ms
FROM spans
GROUP BY ALL
ORDER BY spans DESC
LIMIT 30
