-- One row per kind of turn of the window (`focus`) and of the window before, and how many such turns there were: with the attributes that `lastword.explain` slices by.
SELECT
    route,
    model_tier,
    model,
    array_to_string(list_sort(tools_used), ', ') AS tool,
    service_version,
    service_instance,
    broken,
    ended_at >= $start::TIMESTAMPTZ AS focus,
    count(*) AS n
FROM turns
WHERE
    ended_at >= $before::TIMESTAMPTZ AND ended_at < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR model_tier = $tier OR ($tier = '(none)' AND model_tier IS NULL))
    AND ($status::VARCHAR IS NULL OR coalesce(completion_status, terminal) = $status)
GROUP BY route, model_tier, model, tools_used, service_version, service_instance, broken, focus
