-- What people query, over `store.*`. Every view is described in docs/sql.md and read by a test. Statements end with a semicolon at the end of a line.
-- `$grace_ms` is replaced by the setting LASTWORD_COLLECTOR_ABANDONED_GRACE_MS.

CREATE OR REPLACE VIEW spans AS
SELECT
    trace_id, span_id, parent_span_id, turn_id, name, kind, status, status_message,
    started_at, started_at + to_microseconds((start_rest_ns + duration_ns) // 1000) AS ended_at,
    epoch_us(started_at) * 1000 + start_rest_ns AS start_ns, duration_ns, duration_ns // 1000000 AS duration_ms,
    service_name, scope_name, attributes, events, links,
    operation, provider, model, conversation_id, tool_name, input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, finish_reason,
    first_token_ms
FROM store.spans WHERE pending IS NOT true;

CREATE OR REPLACE VIEW open_turns AS
SELECT turn_id, trace_id, span_id, conversation_id, started_at, deadline_ms, service_name, service_version, service_instance, contract
FROM store.accepted
WHERE epoch_ms(started_at) + deadline_ms + $grace_ms >= epoch_ms(now());

CREATE OR REPLACE VIEW turns AS
SELECT
    turn_id, trace_id, span_id, conversation_id, started_at, ended_at,
    terminal, origin, route, model_tier, model, completion_status, "partial", reason, finish_reason,
    error_code, error_message, retryable, attempts, degraded, fallback, recovered,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, usage_complete,
    sources, sources_count, tools_used, tools_with_results, tool_calls_count, tools_with_results_count, attempt_details, tool_calls, source_details,
    chunk_count, answer_chars, answer_matches_stream,
    auth_ms, precheck_ms, conversation_context_ms, route_ms, retrieval_ms, agent_setup_ms, model_wait_ms, stream_ms,
    post_process_ms, finalize_ms, first_token_ms, total_ms, deadline_ms,
    service_name, service_version, service_instance, contract, record,
    (coalesce("partial", false) OR terminal <> 'done') AND coalesce(reason, '') NOT IN ('client_cancelled', 'client_disconnected') AS broken,
    coalesce(reason, '') IN ('client_cancelled', 'client_disconnected') AS client_left
FROM (SELECT * FROM store.ended UNION ALL BY NAME SELECT * FROM store.abandoned);

CREATE OR REPLACE VIEW turn_stages AS
WITH long AS (
    UNPIVOT (SELECT turn_id, ended_at, route, model_tier, total_ms,
        auth_ms AS "auth", precheck_ms AS "precheck", conversation_context_ms AS "conversationContext", route_ms AS "routing",
        retrieval_ms AS "retrieval", agent_setup_ms AS "agentSetup", model_wait_ms AS "modelWait", stream_ms AS "stream",
        post_process_ms AS "postProcess", finalize_ms AS "finalize",
        total_ms - coalesce(auth_ms, 0) - coalesce(precheck_ms, 0) - coalesce(conversation_context_ms, 0) - coalesce(route_ms, 0)
            - coalesce(retrieval_ms, 0) - coalesce(agent_setup_ms, 0) - coalesce(model_wait_ms, 0) - coalesce(stream_ms, 0)
            - coalesce(post_process_ms, 0) - coalesce(finalize_ms, 0) AS "unaccounted"
        FROM turns WHERE total_ms IS NOT NULL)
    ON "auth", "precheck", "conversationContext", "routing", "retrieval", "agentSetup", "modelWait", "stream", "postProcess", "finalize",
       "unaccounted"
    INTO NAME stage VALUE ms
)
SELECT
    turn_id, ended_at, route, model_tier, CASE stage WHEN 'routing' THEN 'route' ELSE stage END AS stage,
    list_position(['auth', 'precheck', 'conversationContext', 'routing', 'retrieval', 'agentSetup', 'modelWait', 'stream', 'postProcess',
        'finalize', 'unaccounted'], stage) AS position,
    ms, CASE WHEN total_ms > 0 THEN ms / total_ms END AS share
FROM long;

CREATE OR REPLACE VIEW turn_tools AS
SELECT turn_id, ended_at, route, n, item.name AS name, item.outcome AS outcome, item.durationMs AS duration_ms
FROM (
    SELECT turn_id, ended_at, route, unnest(tool_calls) AS item, generate_subscripts(tool_calls, 1) AS n
    FROM store.ended WHERE tool_calls_count > 0
);

CREATE OR REPLACE VIEW turn_sources AS
SELECT
    turn_id, ended_at, route, n, item.url AS url, item.title AS title, item.publisher AS publisher, item.origins AS origins, item.score AS score
FROM (
    SELECT turn_id, ended_at, route, unnest(source_details) AS item, generate_subscripts(source_details, 1) AS n
    FROM store.ended WHERE sources_count > 0
);

CREATE OR REPLACE VIEW turn_attempts AS
SELECT
    turn_id, ended_at, route, item.n AS n, item.model AS model, item.modelTier AS model_tier, item.outcome AS outcome, item.errorType AS error_type,
    item.visible AS visible, item.providerRequestId AS provider_request_id, item.usage.inputTokens AS input_tokens,
    item.usage.outputTokens AS output_tokens, item.usage.complete AS usage_complete, item.durationMs AS duration_ms
FROM (SELECT turn_id, ended_at, route, unnest(attempt_details) AS item FROM store.ended WHERE attempts > 0);

CREATE OR REPLACE VIEW turn_content AS
SELECT turn_id, ended_at, prompt, answer FROM store.content;

CREATE OR REPLACE VIEW violations AS
SELECT turn_id, trace_id, ended_at, rule, detail, route, service_name, service_version, service_instance FROM store.violations;

CREATE OR REPLACE VIEW turn_minutes AS
SELECT
    minute, route, tier, model, status, reason, n, partials, broken, client_left, tools, tools_with_results, sources, without_source,
    input_tokens, output_tokens, tokens
FROM store.turn_minutes;

CREATE OR REPLACE VIEW stage_minutes AS
SELECT minute, route, tier, stage, bucket, n FROM store.stage_minutes;

CREATE OR REPLACE VIEW turn_steps AS
SELECT step, route, tier, model, tools, service_version, service_instance, status, terminal, reason, ending, broke_in, n, broken FROM store.turn_steps;

CREATE OR REPLACE VIEW stage_steps AS
SELECT step, route, tier, status, stage, bucket, n, ms FROM store.stage_steps;

CREATE OR REPLACE VIEW tool_steps AS
SELECT step, route, tier, status, name, outcome, bucket, n FROM store.tool_steps;

CREATE OR REPLACE VIEW source_steps AS
SELECT step, route, tier, status, kind, value, n, turns, score, scored FROM store.source_steps;

CREATE OR REPLACE VIEW turn_roots AS
SELECT step, turn_id FROM store.turn_roots;

CREATE OR REPLACE VIEW partial_rate_per_minute AS
SELECT
    minute, route, tier AS model_tier,
    CAST(sum(n) AS BIGINT) AS turns, CAST(sum(broken) AS BIGINT) AS broken, CAST(sum(client_left) AS BIGINT) AS client_left, sum(broken) / sum(n) AS rate
FROM store.turn_minutes GROUP BY ALL;

-- Quantiles from log buckets: a bucket is an eighth of an octave, and its middle stands for it.
CREATE OR REPLACE VIEW stage_latency AS
WITH filled AS (
    SELECT minute, route, stage, bucket, sum(n) AS n FROM store.stage_minutes GROUP BY ALL
), ranked AS (
    SELECT
        *, sum(n) OVER (PARTITION BY minute, route, stage ORDER BY bucket) AS upto,
        sum(n) OVER (PARTITION BY minute, route, stage) AS turns,
        CASE WHEN bucket < 0 THEN 0 ELSE pow(2, (bucket + 0.5) / 8) END AS ms
    FROM filled
)
SELECT
    minute, route, stage, CAST(any_value(turns) AS BIGINT) AS turns,
    min(ms) FILTER (upto >= 0.5 * turns) AS p50_ms, min(ms) FILTER (upto >= 0.95 * turns) AS p95_ms, min(ms) FILTER (upto >= 0.99 * turns) AS p99_ms
FROM ranked GROUP BY minute, route, stage;

CREATE OR REPLACE VIEW tools_with_results AS
SELECT
    name, count(*) AS calls,
    count(*) FILTER (outcome = 'results') AS with_results, count(*) FILTER (outcome = 'empty') AS "empty",
    count(*) FILTER (outcome = 'error') AS error, count(*) FILTER (outcome = 'timeout') AS timeout,
    count(*) FILTER (outcome = 'results') / count(*) AS share
FROM turn_tools GROUP BY name;

CREATE OR REPLACE VIEW source_counts AS
SELECT route, sources_count, count(*) AS turns FROM turns WHERE terminal = 'done' AND sources_count IS NOT NULL GROUP BY ALL;

CREATE OR REPLACE VIEW slowest_turns AS
SELECT turn_id, ended_at, route, model_tier, completion_status, first_token_ms, total_ms
FROM turns WHERE total_ms IS NOT NULL ORDER BY total_ms DESC LIMIT 100;

CREATE OR REPLACE VIEW lost_turns AS
SELECT turn_id, trace_id, started_at, ended_at, deadline_ms, service_instance FROM store.abandoned;

CREATE OR REPLACE VIEW alerts AS
SELECT
    alert_id, incident_id, rule, severity, role, state, scope, route, model_tier, labels, since_at, fired_at, resolved_at, why_resolved,
    window_minutes, turns, broken, expected, rate, rate_low, rate_high, baseline, evidence, threshold, recovers_below, value, summary, explanation, link
FROM store.alerts;

CREATE OR REPLACE VIEW alert_events AS
SELECT event_id, alert_id, incident_id, happened_at, change, rule, severity, role, route, model_tier, summary FROM store.alert_events;

CREATE OR REPLACE VIEW alert_deliveries AS
SELECT delivery_id, event_id, alert_id, incident_id, receiver, state, queued_at, due_at, attempts, delivered_at, error, message
FROM store.alert_deliveries;

CREATE OR REPLACE VIEW alert_series AS
SELECT
    rule, scope, route, model_tier, minute, state, turns, broken, expected, baseline, evidence, threshold, window_minutes, restlessness,
    visible_15, visible_60, alert_id
FROM store.alert_series;

CREATE OR REPLACE VIEW alert_silences AS
SELECT silence_id, rule, route, model_tier, starts_at, ends_at, comment FROM store.alert_silences;
