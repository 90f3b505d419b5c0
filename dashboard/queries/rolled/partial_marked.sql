-- As `partial_marked`, for windows of whole steps: one row per kind of turn and step.
SELECT
    route,
    tier AS model_tier,
    model,
    tools AS tool,
    service_version,
    service_instance,
    broken > 0 AS broken,
    step >= $start::TIMESTAMPTZ AS focus,
    n
FROM turn_steps
WHERE
    step >= $before::TIMESTAMPTZ AND step < $end::TIMESTAMPTZ
    AND ($route::VARCHAR IS NULL OR route = $route OR ($route = '(none)' AND route IS NULL))
    AND ($tier::VARCHAR IS NULL OR tier = $tier OR ($tier = '(none)' AND tier IS NULL))
    AND ($status::VARCHAR IS NULL OR status = $status)
