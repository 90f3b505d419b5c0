-- Turns whose terminal did not come within their deadline and the grace, with the columns of a turn that ended; what nobody knows is null.
CREATE OR REPLACE VIEW store.abandoned AS
SELECT
    a.turn_id, a.trace_id, a.span_id, a.conversation_id, a.started_at,
    a.started_at + to_milliseconds(a.deadline_ms + $grace_ms) AS ended_at,
    a.deadline_ms, 'abandoned' AS terminal, 'record' AS origin,
    a.service_name, a.service_version, a.service_instance, a.contract,
    nothing.* EXCLUDE (turn_id, trace_id, span_id, conversation_id, started_at, ended_at, deadline_ms, terminal, origin, service_name, service_version,
        service_instance, contract, "partial", sources, sources_count, tools_used, tools_with_results, tool_calls_count, tools_with_results_count),
    false AS "partial", 0 AS sources_count, 0 AS tool_calls_count, 0 AS tools_with_results_count,
    CAST([] AS VARCHAR[]) AS sources, CAST([] AS VARCHAR[]) AS tools_used, CAST([] AS VARCHAR[]) AS tools_with_results
FROM store.accepted AS a
CROSS JOIN ($nothing) AS nothing
WHERE epoch_ms(a.started_at) + a.deadline_ms + $grace_ms < epoch_ms(now());
