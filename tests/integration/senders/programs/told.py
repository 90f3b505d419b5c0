"""Says what an SDK itself holds of the spans that it ended, in the shape of the collector's rows: what was sent is compared with it."""

import json

from opentelemetry.sdk.trace import SpanProcessor


class Told(SpanProcessor):
    """Keeps every span that ends."""

    def __init__(self):
        self.spans = []

    def on_start(self, span, parent_context=None):
        pass

    def on_end(self, span):
        self.spans.append(row(span))

    def shutdown(self):
        pass

    def force_flush(self, timeout_millis=30_000):
        return True

    def tell(self, **more):
        """Prints the spans, on one line that the test looks for."""
        print("TOLD " + json.dumps({"spans": self.spans, **more}), flush=True)


def row(span):
    """A span as the collector is to store it."""
    return {
        "trace_id": f"{span.context.trace_id:032x}",
        "span_id": f"{span.context.span_id:016x}",
        "parent_span_id": f"{span.parent.span_id:016x}" if span.parent else None,
        "name": span.name,
        "kind": span.kind.name,
        "status": span.status.status_code.name,
        "status_message": span.status.description or None,
        "start_ns": span.start_time,
        "duration_ns": span.end_time - span.start_time,
        "service_name": span.resource.attributes["service.name"],
        "scope_name": span.instrumentation_scope.name,
        "attributes": plain(span.attributes),
        "events": [{"name": one.name, "timeNs": one.timestamp, "attributes": plain(one.attributes)} for one in span.events],
        "links": [
            {"traceId": f"{link.context.trace_id:032x}", "spanId": f"{link.context.span_id:016x}"} for link in span.links
        ],
    }


def plain(attributes):
    """Attributes as JSON has them."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in (attributes or {}).items()}
