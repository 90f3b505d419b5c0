"""The ways to take spans that are compared, each as a program of its own on uvicorn: `python -m benchmarks.collector.lanes NAME PORT FOLDER`.

`body` reads the request and nothing else, which is what HTTP costs. `plain` is what first comes to mind: protobuf, Arrow, DuckDB, a commit before the 200.
Both answer `GET /count` with the number of spans that can be queried.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import uvicorn
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

Take = Callable[[bytes], None]
_COLUMNS = {
    **dict.fromkeys(("trace_id", "span_id", "parent_span_id", "name"), pa.string()),
    **dict.fromkeys(("kind", "status", "start_ns", "end_ns"), pa.int64()),
    **dict.fromkeys(("service", "attributes", "events"), pa.string()),
}
_SCHEMA = pa.schema(_COLUMNS)


class Body:
    """Reads and forgets."""

    def take(self, _body: bytes) -> None:
        """Nothing."""

    def count(self) -> int:
        """Nothing can be queried."""
        return 0

    def close(self) -> None:
        """Nothing is open."""


def _plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(one) for one in value.array_value.values]
    return None if kind is None else getattr(value, kind)


def _attributes(items: Iterable[KeyValue]) -> dict[str, Any]:
    return {item.key: _plain(item.value) for item in items}


class Plain:
    """Decodes a request, and commits it by itself before it is answered."""

    def __init__(self, folder: Path) -> None:
        self._connection = duckdb.connect(str(folder / "spans.duckdb"))
        columns = ", ".join(f"{name} {'BIGINT' if kind == pa.int64() else 'VARCHAR'}" for name, kind in _COLUMNS.items())
        self._connection.execute(f"CREATE TABLE IF NOT EXISTS spans ({columns})")
        self._lock = threading.Lock()

    def take(self, body: bytes) -> None:
        """Stores the spans of a request."""
        request = ExportTraceServiceRequest.FromString(body)
        rows = []
        for resource in request.resource_spans:
            service = _attributes(resource.resource.attributes).get("service.name")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    events = [
                        {"name": one.name, "time": one.time_unix_nano, **_attributes(one.attributes)} for one in span.events
                    ]
                    rows.append(
                        {
                            "trace_id": span.trace_id.hex(),
                            "span_id": span.span_id.hex(),
                            "parent_span_id": span.parent_span_id.hex(),
                            "name": span.name,
                            "kind": span.kind,
                            "status": span.status.code,
                            "start_ns": span.start_time_unix_nano,
                            "end_ns": span.end_time_unix_nano,
                            "service": service,
                            "attributes": json.dumps(_attributes(span.attributes)),
                            "events": json.dumps(events),
                        }
                    )
        batch = pa.Table.from_pylist(rows, _SCHEMA)
        with self._lock:
            self._connection.register("batch", batch)
            self._connection.execute("INSERT INTO spans SELECT * FROM batch")
            self._connection.unregister("batch")

    def count(self) -> int:
        """Spans that are stored."""
        with self._lock:
            row = self._connection.execute("SELECT count(*) FROM spans").fetchone()
        return int(row[0]) if row else 0

    def close(self) -> None:
        """Takes the log into the file."""
        self._connection.execute("CHECKPOINT")
        self._connection.close()


def _app(lane: Body | Plain) -> Any:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            lane.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
        answer = b""
        if scope["method"] == "POST":
            body, more = b"", True
            while more:
                message = await receive()
                body, more = body + message.get("body", b""), message.get("more_body", False)
            await asyncio.to_thread(lane.take, body)
        elif scope["path"] == "/count":
            answer = str(await asyncio.to_thread(lane.count)).encode()
        headers = [(b"content-type", b"application/x-protobuf")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    return app


def main() -> None:
    """Serves one lane."""
    name, port, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    lane = Body() if name == "body" else Plain(folder)
    uvicorn.run(_app(lane), host="127.0.0.1", port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
