"""A question to a local model through an instrumented client: `ask_model.py openinference|openllmetry|logfire|langfuse COLLECTOR MODEL-SERVER`."""

import os
import sys

import anthropic
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from told import Told

which, url, model_server = sys.argv[1:]
told = Told()


def ask():
    """One streamed answer."""
    client = anthropic.Anthropic(api_key="none", base_url=model_server, max_retries=0)
    messages = [{"role": "user", "content": "[[script: text, end]]"}]
    # Not as a context: OpenLLMetry's span would never end.
    for _ in client.messages.create(model="model-1", max_tokens=50, messages=messages, stream=True):
        pass


def instrumented(instrumentor):
    """A root of our own around the instrumented call."""
    provider = TracerProvider(resource=Resource.create({"service.name": which}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{url}/v1/traces")))
    provider.add_span_processor(told)
    instrumentor.instrument(tracer_provider=provider)
    with provider.get_tracer("hand").start_as_current_span("ask", attributes={"session.id": "c1"}):
        ask()
    provider.shutdown()


if which == "openinference":
    from openinference.instrumentation.anthropic import AnthropicInstrumentor

    instrumented(AnthropicInstrumentor())
elif which == "openllmetry":
    from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor

    instrumented(AnthropicInstrumentor())
elif which == "logfire":
    import logfire

    # Its own backend is the collector, so that it sends as it does to its own: pending spans, too.
    advanced = logfire.AdvancedOptions(base_url=url)
    logfire.configure(
        token=os.environ["TOKEN"],
        service_name=which,
        console=False,
        inspect_arguments=False,
        scrubbing=False,
        advanced=advanced,
        metrics=False,
        additional_span_processors=[told],
    )
    logfire.instrument_anthropic()
    with logfire.span("ask", **{"session.id": "c1"}):
        logfire.force_flush()  # here its placeholder is on its way, and the span is not
        ask()
    logfire.force_flush()
else:
    from datetime import UTC, datetime

    from langfuse import Langfuse, propagate_attributes

    provider = TracerProvider(resource=Resource.create({"service.name": which}))
    provider.add_span_processor(told)
    langfuse = Langfuse(public_key="pk-lf-x", secret_key=os.environ["TOKEN"], base_url=url, tracer_provider=provider)
    with (
        langfuse.start_as_current_observation(name="ask", as_type="span"),
        propagate_attributes(session_id="c1"),
        langfuse.start_as_current_observation(name="call", as_type="generation", model="model-1") as generation,
    ):
        generation.update(completion_start_time=datetime.now(UTC), usage_details={"input": 11, "output": 7})
    langfuse.flush()
told.tell()
