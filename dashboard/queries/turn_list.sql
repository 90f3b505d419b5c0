-- One row per ended turn, for a page of the list of turns; `$pick` is newest, slowest or broken. Each further parameter narrows the list unless it is null:
-- the reason, a stage with the bounds of its milliseconds, a tool with the outcome of its calls, all of
-- its tools, the number of sources, the model, the service's version and process; '(none)' stands for a value that a turn does not have.
WITH matching AS NOT MATERIALIZED (
    SELECT *
    FROM turns
    WHERE
        ($pick <> 'broken' OR broken)
        AND ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
        AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
        AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
        AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
        AND ($reason::VARCHAR IS NULL OR coalesce(reason, terminal) = $reason)
        AND ($model::VARCHAR IS NULL OR coalesce(nullif(model, ''), '(none)') = $model)
        AND ($version::VARCHAR IS NULL OR coalesce(nullif(service_version, ''), '(none)') = $version)
        AND ($instance::VARCHAR IS NULL OR coalesce(nullif(service_instance, ''), '(none)') = $instance)
        AND ($tools::VARCHAR IS NULL OR coalesce(nullif(array_to_string(list_sort(tools_used), ', '), ''), '(none)') = $tools)
        AND ($sources::INTEGER IS NULL OR (terminal = 'done' AND sources_count = $sources))
        AND (
            $stage::VARCHAR IS NULL
            OR CASE $stage
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
            END BETWEEN $low_ms AND $high_ms
        )
        AND (
            $tool::VARCHAR IS NULL
            OR turn_id IN (
                SELECT turn_id
                FROM turn_tools
                WHERE
                    ended_at >= $start::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
                    AND name = $tool
                    AND ($outcome::VARCHAR IS NULL OR outcome = $outcome)
            )
        )
)

SELECT
    turn_id,
    ended_at,
    route,
    model_tier,
    coalesce(completion_status, terminal) AS status,
    terminal,
    partial,
    broken,
    reason,
    first_token_ms,
    total_ms,
    attempts,
    sources_count,
    (SELECT count(*) FROM matching) AS found
FROM matching
ORDER BY CASE WHEN $pick = 'slowest' THEN total_ms END DESC NULLS LAST, ended_at DESC, turn_id
LIMIT $limit OFFSET $offset
