-- Which turns were slowest, and where did their time go?
SELECT turn_id, route, total_ms, retrieval_ms, model_wait_ms, stream_ms
FROM turns
ORDER BY total_ms DESC NULLS LAST
LIMIT 50
