-- One row per time bucket: turns that were answered, and those of them that rest on no source (as `broken`, the word of all rates over time).
SELECT
    floor((epoch_ms(ended_at) - epoch_ms($start::TIMESTAMPTZ)) / $bucket_ms)::INTEGER AS bucket,
    count(*) AS turns,
    count(*) FILTER (WHERE sources_count = 0) AS broken
FROM turns
WHERE
    terminal = 'done'
    AND sources_count IS NOT NULL
    AND ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
    AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
GROUP BY bucket
ORDER BY bucket
