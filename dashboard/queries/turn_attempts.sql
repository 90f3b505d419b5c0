-- One row per try at the model, in order.
SELECT
    n,
    model,
    model_tier,
    outcome,
    error_type,
    visible,
    provider_request_id,
    input_tokens,
    output_tokens,
    usage_complete,
    duration_ms
FROM turn_attempts
WHERE turn_id = $turn_id AND ended_at = $ended_at::TIMESTAMPTZ
ORDER BY n
