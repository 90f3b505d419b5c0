-- One row per kind of turn of the window in which the stage ran, and how many such turns there were, with the attributes that `lastword.explain` slices by. `broken` says that the turn's time in the stage lies in
-- the box, `focus` that it ended within the box's time: a slice stands out where it is in the box more often than it usually is.
SELECT
    route,
    model_tier,
    model,
    array_to_string(list_sort(tools_used), ', ') AS tool,
    service_version,
    service_instance,
    ms BETWEEN $low_ms AND $high_ms AS broken,
    ended_at >= $box_start::TIMESTAMPTZ AND ended_at < $box_end::TIMESTAMPTZ AS focus,
    count(*) AS n
FROM (
    SELECT
        route,
        model_tier,
        model,
        tools_used,
        service_version,
        service_instance,
        ended_at,
        CASE $stage
            WHEN 'auth_ms' THEN auth_ms
            WHEN 'precheck_ms' THEN precheck_ms
            WHEN 'conversation_context_ms' THEN conversation_context_ms
            WHEN 'route_ms' THEN route_ms
            WHEN 'retrieval_ms' THEN retrieval_ms
            WHEN 'agent_setup_ms' THEN agent_setup_ms
            WHEN 'model_wait_ms' THEN model_wait_ms
            WHEN 'stream_ms' THEN stream_ms
            WHEN 'post_process_ms' THEN post_process_ms
            WHEN 'finalize_ms' THEN finalize_ms
            WHEN 'first_token_ms' THEN first_token_ms
            WHEN 'total_ms' THEN total_ms
        END AS ms
    FROM turns
    WHERE
        ended_at >= $before::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
        AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
        AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
        AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
)
WHERE ms IS NOT NULL
GROUP BY route, model_tier, model, tools_used, service_version, service_instance, broken, focus
