"""The agreed SQL surface as empty tables in memory, so that the dashboard's queries can be tried without a collector."""

from __future__ import annotations

import duckdb

DDL = """
CREATE TABLE turns (
    turn_id VARCHAR, trace_id VARCHAR, span_id VARCHAR, conversation_id VARCHAR, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ,
    terminal VARCHAR, origin VARCHAR, route VARCHAR, model_tier VARCHAR, model VARCHAR, completion_status VARCHAR, partial BOOLEAN,
    reason VARCHAR, finish_reason VARCHAR, error_code VARCHAR, error_message VARCHAR, retryable BOOLEAN, attempts INTEGER,
    degraded BOOLEAN, fallback BOOLEAN, recovered BOOLEAN, input_tokens BIGINT, output_tokens BIGINT, cache_read_tokens BIGINT,
    cache_write_tokens BIGINT, usage_complete BOOLEAN, sources VARCHAR[], sources_count INTEGER, tools_used VARCHAR[],
    tools_with_results VARCHAR[], tool_calls_count INTEGER, tools_with_results_count INTEGER,
    attempt_details STRUCT(n INTEGER)[], tool_calls STRUCT(name VARCHAR)[], source_details STRUCT(url VARCHAR)[], chunk_count INTEGER,
    answer_chars INTEGER, answer_matches_stream BOOLEAN, auth_ms BIGINT, precheck_ms BIGINT, conversation_context_ms BIGINT,
    route_ms BIGINT, retrieval_ms BIGINT, agent_setup_ms BIGINT, model_wait_ms BIGINT, stream_ms BIGINT, post_process_ms BIGINT,
    finalize_ms BIGINT, first_token_ms BIGINT, total_ms BIGINT, deadline_ms BIGINT, service_name VARCHAR, service_version VARCHAR,
    service_instance VARCHAR, contract VARCHAR, record VARCHAR, broken BOOLEAN, client_left BOOLEAN
);
CREATE TABLE turn_steps (step TIMESTAMPTZ, n BIGINT);
CREATE TABLE turn_roots (step TIMESTAMPTZ, turn_id VARCHAR);
CREATE TABLE open_turns (turn_id VARCHAR, trace_id VARCHAR, started_at TIMESTAMPTZ, deadline_ms BIGINT);
CREATE TABLE turn_tools (
    turn_id VARCHAR, ended_at TIMESTAMPTZ, route VARCHAR, n INTEGER, name VARCHAR, outcome VARCHAR, duration_ms BIGINT
);
CREATE TABLE turn_sources (
    turn_id VARCHAR, ended_at TIMESTAMPTZ, route VARCHAR, n INTEGER, url VARCHAR, title VARCHAR, publisher VARCHAR,
    origins VARCHAR[], score DOUBLE
);
CREATE TABLE turn_attempts (
    turn_id VARCHAR, ended_at TIMESTAMPTZ, route VARCHAR, n INTEGER, model VARCHAR, model_tier VARCHAR, outcome VARCHAR,
    error_type VARCHAR, visible BOOLEAN, provider_request_id VARCHAR, input_tokens BIGINT, output_tokens BIGINT,
    usage_complete BOOLEAN, duration_ms BIGINT
);
CREATE TABLE turn_stages (
    turn_id VARCHAR, ended_at TIMESTAMPTZ, route VARCHAR, model_tier VARCHAR, stage VARCHAR, position INTEGER, ms BIGINT, share DOUBLE
);
CREATE TABLE violations (
    turn_id VARCHAR, trace_id VARCHAR, ended_at TIMESTAMPTZ, rule VARCHAR, detail VARCHAR, route VARCHAR, service_name VARCHAR,
    service_version VARCHAR, service_instance VARCHAR
);
CREATE TABLE alerts (
    alert_id VARCHAR, incident_id VARCHAR, rule VARCHAR, severity VARCHAR, role VARCHAR, state VARCHAR, scope VARCHAR, route VARCHAR,
    model_tier VARCHAR, labels VARCHAR, since_at TIMESTAMPTZ, fired_at TIMESTAMPTZ, resolved_at TIMESTAMPTZ, why_resolved VARCHAR,
    window_minutes INTEGER, turns BIGINT, broken BIGINT, expected DOUBLE, rate DOUBLE, rate_low DOUBLE, rate_high DOUBLE,
    baseline DOUBLE, evidence DOUBLE, threshold DOUBLE, recovers_below DOUBLE, value DOUBLE, summary VARCHAR, explanation VARCHAR,
    link VARCHAR
);
CREATE TABLE alert_events (
    event_id VARCHAR, alert_id VARCHAR, incident_id VARCHAR, happened_at TIMESTAMPTZ, change VARCHAR, rule VARCHAR, severity VARCHAR,
    role VARCHAR, route VARCHAR, model_tier VARCHAR, summary VARCHAR
);
CREATE TABLE alert_deliveries (
    delivery_id VARCHAR, event_id VARCHAR, alert_id VARCHAR, incident_id VARCHAR, receiver VARCHAR, state VARCHAR,
    queued_at TIMESTAMPTZ, due_at TIMESTAMPTZ, attempts INTEGER, delivered_at TIMESTAMPTZ, error VARCHAR, message VARCHAR
);
CREATE TABLE alert_series (
    rule VARCHAR, scope VARCHAR, route VARCHAR, model_tier VARCHAR, minute TIMESTAMPTZ, state VARCHAR, turns BIGINT, broken BIGINT,
    expected DOUBLE, baseline DOUBLE, evidence DOUBLE, threshold DOUBLE, window_minutes INTEGER, restlessness DOUBLE,
    visible_15 DOUBLE, visible_60 DOUBLE, alert_id VARCHAR
);
CREATE TABLE alert_silences (
    silence_id VARCHAR, rule VARCHAR, route VARCHAR, model_tier VARCHAR, starts_at TIMESTAMPTZ, ends_at TIMESTAMPTZ, comment VARCHAR
);
CREATE TABLE spans (
    trace_id VARCHAR, span_id VARCHAR, parent_span_id VARCHAR, turn_id VARCHAR, name VARCHAR, kind VARCHAR, status VARCHAR,
    status_message VARCHAR, started_at TIMESTAMPTZ, ended_at TIMESTAMPTZ, start_ns BIGINT, duration_ns BIGINT, duration_ms BIGINT,
    service_name VARCHAR, scope_name VARCHAR, attributes VARCHAR, events VARCHAR, links VARCHAR
);
"""


def connect() -> duckdb.DuckDBPyConnection:
    """A fresh database in memory with every table of the surface that the dashboard reads."""
    connection = duckdb.connect(":memory:")
    connection.execute(DDL)
    return connection
