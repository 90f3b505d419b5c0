-- Why did turns break?
SELECT coalesce(reason, terminal) AS reason, count(*) AS turns
FROM turns
WHERE broken
GROUP BY ALL
ORDER BY turns DESC
