"""One trace by hand, with everything that a span can hold: the spans are the same for every exporter."""

from opentelemetry import trace

GENAI = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "anthropic",
    "gen_ai.request.model": "model-1",
    "gen_ai.usage.input_tokens": 11,
    "gen_ai.usage.output_tokens": 7,
    "gen_ai.response.time_to_first_chunk": 0.05,
    "gen_ai.response.finish_reasons": ["end_turn"],
}


def send(tracer, inside=lambda: None):
    """Ends a root with a call of a model in it."""
    with tracer.start_as_current_span("ask", kind=trace.SpanKind.SERVER, attributes={"session.id": "c1"}) as root:
        link = trace.Link(root.get_span_context(), {"k": 1})
        with tracer.start_as_current_span("call", kind=trace.SpanKind.CLIENT, attributes=GENAI, links=[link]) as span:
            span.set_attributes({"s": "é世", "i": 2**53 + 1, "f": 1.5, "b": True, "l": ["a", "b"], "n": [1, 2], "empty": ""})
            span.add_event("happened", {"k": 1})
            inside()
            span.set_status(trace.StatusCode.ERROR, "too bad")
