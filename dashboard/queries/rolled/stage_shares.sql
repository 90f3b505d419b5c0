-- As `stage_shares`, for windows of whole steps.
SELECT
    coalesce(route, '(none)') AS route,
    stage,
    list_position(
        ['auth', 'precheck', 'conversationContext', 'route', 'retrieval', 'agentSetup', 'modelWait', 'stream', 'postProcess', 'finalize', 'unaccounted'],
        stage
    ) AS position,
    sum(n)::BIGINT AS turns,
    sum(ms)::DOUBLE / nullif(sum(sum(ms)) OVER (PARTITION BY coalesce(route, '(none)')), 0) AS share
FROM stage_steps
WHERE
    stage NOT IN ('firstToken', 'total')
    AND step >= $start::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
    AND ($status::VARCHAR IS NULL OR status = $status)
GROUP BY coalesce(route, '(none)'), stage
ORDER BY 1, position
