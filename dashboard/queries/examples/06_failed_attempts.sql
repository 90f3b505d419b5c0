-- Why did attempts at the model fail, and had they shown text?
SELECT outcome, count(*) AS attempts, count(*) FILTER (visible) AS had_shown_text, model
FROM turn_attempts
WHERE outcome <> 'ok'
GROUP BY ALL
ORDER BY attempts DESC
