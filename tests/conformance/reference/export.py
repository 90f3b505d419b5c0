"""Telemetry of the reference server: spans and records as OTLP over HTTP, built from what the turn noted."""

import asyncio
import json
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.conformance.reference.turn import Span, Turn

NAMES = {
    "authMs": "turn.auth",
    "precheckMs": "turn.precheck",
    "conversationContextMs": "turn.context",
    "routeMs": "turn.route",
    "agentSetupMs": "turn.agent_setup",
    "streamMs": "turn.stream",
    "postProcessMs": "turn.post_process",
    "finalizeMs": "turn.finalize",
}


class Exporter:
    """Sends each turn when it has ended."""

    def __init__(self, otlp: str) -> None:
        self._otlp = otlp
        self._tasks: set[asyncio.Task[None]] = set()

    def turn_ended(self, server: Any, turn: Turn) -> None:
        if not self._otlp:
            return
        traces, logs = ExportTraceServiceRequest(), ExportLogsServiceRequest()
        scope = traces.resource_spans.add().scope_spans.add()
        for span in server.spans(turn):
            _fill(scope.spans.add(), turn, span)
        record = server.record(turn)
        if record is not None:
            entry = logs.resource_logs.add().scope_logs.add().log_records.add()
            entry.event_name, entry.trace_id = "turn.done", bytes.fromhex(turn.trace_id)
            entry.attributes.add(key="lastword.turn.id").value.string_value = turn.id
            entry.body.string_value = record
        self._send("/v1/traces", traces.SerializeToString())
        self._send("/v1/logs", logs.SerializeToString())

    def _send(self, path: str, body: bytes) -> None:
        task = asyncio.create_task(self._post(path, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(self, path: str, body: bytes) -> None:
        parts = urlsplit(self._otlp)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        )
        await reader.readline()
        writer.close()

    async def flush(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=1)


def _fill(target: Any, turn: Turn, span: Span) -> None:
    target.trace_id, target.span_id = bytes.fromhex(turn.trace_id), bytes.fromhex(span.id)
    target.parent_span_id = bytes.fromhex(span.parent)
    target.name, target.start_time_unix_nano, target.end_time_unix_nano = span.name, span.start, span.end
    for name, value in span.attributes.items():
        attribute = target.attributes.add(key=name).value
        if isinstance(value, int):
            attribute.int_value = value
        else:
            attribute.string_value = value


class Observed:
    """What the server tells of a turn. Mixed into the server."""

    def spans(self, turn: Turn) -> list[Span]:
        """The turn's spans: the stages that ran, and the attempts with their calls."""
        root = Span("turn", turn.wall, turn.wall + turn.now(), {"lastword.turn.id": turn.id}, turn.parent_span, turn.root)
        stages = [
            Span(NAMES[name], turn.wall + start, turn.wall + end, {}, turn.root)
            for name, (start, end) in turn.stages.items()
            if name in NAMES
        ]
        for span in turn.spans:
            span.parent = span.parent or turn.root
        return [root, *stages, *turn.spans]

    def record(self, turn: Turn) -> str | None:
        """The body of the turn's record; None where it has no terminal."""
        if turn.terminal is None:
            return None
        metadata = dict(turn.terminal["metadata"], answer="")
        return json.dumps({"turnId": turn.id, "terminal": turn.terminal["type"], "metadata": metadata})
