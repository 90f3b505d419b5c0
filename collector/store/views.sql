-- What people query. Every view is documented in docs/sql.md and read by a test.
-- `$grace_ms` is replaced by the setting LASTWORD_COLLECTOR_ABANDONED_GRACE_MS when the store is opened.

CREATE OR REPLACE VIEW spans AS
SELECT
    trace_id, span_id, parent_span_id, turn_id, name, kind, status, status_message,
    make_timestamptz(start_ns // 1000) AS started_at,
    make_timestamptz((start_ns + duration_ns) // 1000) AS ended_at,
    start_ns, duration_ns, duration_ns // 1000000 AS duration_ms,
    service_name, scope_name, attributes, events, links
FROM store.spans;

CREATE OR REPLACE VIEW open_turns AS
SELECT
    a.turn_id, a.trace_id, a.span_id, a.conversation_id,
    make_timestamptz(a.started_ns // 1000) AS started_at,
    a.deadline_ms, a.service_name, a.service_version, a.service_instance, a.contract
FROM store.accepted a
WHERE a.started_ns // 1000000 + a.deadline_ms + $grace_ms >= epoch_ms(now())
  AND NOT EXISTS (SELECT 1 FROM store.ended e WHERE e.turn_id = a.turn_id AND e.started_ns = a.started_ns);

CREATE OR REPLACE VIEW turns AS
WITH every_turn AS (
    SELECT e.*, a.deadline_ms, 'record' AS origin
    FROM store.ended e
    LEFT JOIN store.accepted a ON a.turn_id = e.turn_id AND a.started_ns = e.started_ns
    UNION ALL BY NAME
    SELECT
        a.turn_id, a.trace_id, a.span_id, a.conversation_id, a.started_ns,
        a.started_ns + (a.deadline_ms + $grace_ms) * 1000000 AS ended_ns,
        'abandoned' AS terminal, false AS "partial", 0 AS sources_count, 0 AS tool_calls_count, 0 AS tools_with_results_count,
        '[]' AS sources, '[]' AS tools_used, '[]' AS tools_with_results,
        a.service_name, a.service_version, a.service_instance, a.contract, a.deadline_ms, 'record' AS origin
    FROM store.accepted a
    WHERE a.started_ns // 1000000 + a.deadline_ms + $grace_ms < epoch_ms(now())
      AND NOT EXISTS (SELECT 1 FROM store.ended e WHERE e.turn_id = a.turn_id AND e.started_ns = a.started_ns)
)
SELECT
    turn_id, trace_id, span_id, conversation_id,
    make_timestamptz(started_ns // 1000) AS started_at,
    make_timestamptz(ended_ns // 1000) AS ended_at,
    terminal, origin, route, model_tier, model, completion_status, "partial", reason, finish_reason,
    error_code, error_message, retryable, attempts, degraded, fallback, recovered,
    input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, usage_complete,
    from_json(sources, '["VARCHAR"]') AS sources, sources_count,
    from_json(tools_used, '["VARCHAR"]') AS tools_used,
    from_json(tools_with_results, '["VARCHAR"]') AS tools_with_results,
    tool_calls_count, tools_with_results_count, chunk_count, answer_chars, answer_matches_stream,
    auth_ms, precheck_ms, conversation_context_ms, route_ms, retrieval_ms, agent_setup_ms, model_wait_ms, stream_ms,
    post_process_ms, finalize_ms, first_token_ms, total_ms, deadline_ms,
    service_name, service_version, service_instance, contract, record,
    ("partial" OR terminal <> 'done') AND coalesce(reason, '') NOT IN ('client_cancelled', 'client_disconnected') AS broken,
    coalesce(reason, '') IN ('client_cancelled', 'client_disconnected') AS client_left
FROM every_turn;

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
SELECT
    turn_id, ended_at, route, n,
    item ->> 'name' AS name, item ->> 'outcome' AS outcome, CAST(item ->> 'durationMs' AS BIGINT) AS duration_ms
FROM (
    SELECT turn_id, ended_at, route, unnest(from_json(record -> 'toolCalls', '["JSON"]')) AS item,
        generate_subscripts(from_json(record -> 'toolCalls', '["JSON"]'), 1) AS n
    FROM turns WHERE tool_calls_count > 0
);

CREATE OR REPLACE VIEW turn_sources AS
SELECT
    turn_id, ended_at, route, n,
    item ->> 'url' AS url, item ->> 'title' AS title, item ->> 'publisher' AS publisher,
    from_json(item -> 'origins', '["VARCHAR"]') AS origins, CAST(item ->> 'score' AS DOUBLE) AS score
FROM (
    SELECT turn_id, ended_at, route, unnest(from_json(record -> 'sourceDetails', '["JSON"]')) AS item,
        generate_subscripts(from_json(record -> 'sourceDetails', '["JSON"]'), 1) AS n
    FROM turns WHERE sources_count > 0
);

CREATE OR REPLACE VIEW turn_attempts AS
SELECT
    turn_id, ended_at, route, CAST(item ->> 'n' AS INTEGER) AS n,
    item ->> 'model' AS model, item ->> 'modelTier' AS model_tier, item ->> 'outcome' AS outcome, item ->> 'errorType' AS error_type,
    CAST(item ->> 'visible' AS BOOLEAN) AS visible, item ->> 'providerRequestId' AS provider_request_id,
    CAST(item ->> '$.usage.inputTokens' AS BIGINT) AS input_tokens, CAST(item ->> '$.usage.outputTokens' AS BIGINT) AS output_tokens,
    CAST(item ->> '$.usage.complete' AS BOOLEAN) AS usage_complete, CAST(item ->> 'durationMs' AS BIGINT) AS duration_ms
FROM (
    SELECT turn_id, ended_at, route, unnest(from_json(record -> 'attempts', '["JSON"]')) AS item
    FROM turns WHERE attempts > 0
);

CREATE OR REPLACE VIEW turn_content AS
SELECT turn_id, make_timestamptz(ended_ns // 1000) AS ended_at, prompt, answer FROM store.content;

CREATE OR REPLACE VIEW partial_rate_per_minute AS
SELECT
    date_trunc('minute', ended_at) AS minute, route, model_tier,
    count(*) AS turns, count(*) FILTER (broken) AS broken, count(*) FILTER (client_left) AS client_left,
    count(*) FILTER (broken) / count(*) AS rate
FROM turns GROUP BY ALL;

CREATE OR REPLACE VIEW stage_latency AS
SELECT
    date_trunc('minute', ended_at) AS minute, route, stage, count(*) AS turns,
    quantile_cont(ms, 0.5) AS p50_ms, quantile_cont(ms, 0.95) AS p95_ms, quantile_cont(ms, 0.99) AS p99_ms
FROM turn_stages GROUP BY ALL;

CREATE OR REPLACE VIEW tools_with_results AS
SELECT
    name, count(*) AS calls,
    count(*) FILTER (outcome = 'results') AS with_results, count(*) FILTER (outcome = 'empty') AS "empty",
    count(*) FILTER (outcome = 'error') AS error, count(*) FILTER (outcome = 'timeout') AS timeout,
    count(*) FILTER (outcome = 'results') / count(*) AS share
FROM turn_tools GROUP BY name;

CREATE OR REPLACE VIEW source_counts AS
SELECT route, sources_count, count(*) AS turns FROM turns WHERE terminal = 'done' GROUP BY ALL;

CREATE OR REPLACE VIEW slowest_turns AS
SELECT turn_id, ended_at, route, model_tier, completion_status, first_token_ms, total_ms
FROM turns WHERE total_ms IS NOT NULL ORDER BY total_ms DESC LIMIT 100;

CREATE OR REPLACE VIEW lost_turns AS
SELECT turn_id, trace_id, started_at, ended_at, deadline_ms, service_instance FROM turns WHERE terminal = 'abandoned';
