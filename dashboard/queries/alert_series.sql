-- One row per series that is watched: what it is judged by, and the smallest multiple of its usual rate that it would show. The blindest of those with turns first.
SELECT
    rule,
    scope,
    route,
    model_tier,
    minute,
    state,
    turns,
    broken,
    expected,
    baseline,
    evidence,
    threshold,
    visible_15,
    visible_60
FROM alert_series
ORDER BY coalesce(turns, 0) > 0 DESC, visible_60 DESC NULLS FIRST, visible_15 DESC NULLS FIRST, rule, scope, route, model_tier
LIMIT $limit
