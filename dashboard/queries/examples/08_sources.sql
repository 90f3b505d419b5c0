-- Which sources do answers rest on most?
SELECT url, count(*) AS turns, avg(score) AS mean_score
FROM turn_sources
GROUP BY url
ORDER BY turns DESC
LIMIT 20
