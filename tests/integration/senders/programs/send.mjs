// The JavaScript SDK: `send.mjs json|proto|grpc URL`, run where its packages are.
import { createRequire } from "node:module";

const load = createRequire(`${process.cwd()}/`);
const { NodeTracerProvider, BatchSpanProcessor } = load("@opentelemetry/sdk-trace-node");
const { resourceFromAttributes } = load("@opentelemetry/resources");
const api = load("@opentelemetry/api");
const [protocol, url] = process.argv.slice(2);
const name = { json: "http", proto: "proto", grpc: "grpc" }[protocol];
const { OTLPTraceExporter } = load(`@opentelemetry/exporter-trace-otlp-${name}`);
const exporter = new OTLPTraceExporter({ url: protocol === "grpc" ? url : `${url}/v1/traces` });

const nanos = ([seconds, rest]) => BigInt(seconds) * 1_000_000_000n + BigInt(rest);
const told = [];
const row = (span) => ({
  trace_id: span.spanContext().traceId,
  span_id: span.spanContext().spanId,
  parent_span_id: span.parentSpanContext?.spanId ?? null,
  name: span.name,
  kind: api.SpanKind[span.kind],
  status: api.SpanStatusCode[span.status.code],
  status_message: span.status.message ?? null,
  start_ns: nanos(span.startTime).toString(),
  duration_ns: (nanos(span.endTime) - nanos(span.startTime)).toString(),
  service_name: span.resource.attributes["service.name"],
  scope_name: span.instrumentationScope.name,
  attributes: span.attributes,
  events: span.events.map((event) => ({ name: event.name, timeNs: nanos(event.time).toString(), attributes: event.attributes ?? {} })),
  links: span.links.map((link) => ({ traceId: link.context.traceId, spanId: link.context.spanId })),
});
const teller = {
  onStart() {},
  onEnd(span) {
    told.push(row(span));
  },
  forceFlush: async () => {},
  shutdown: async () => {},
};
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({ "service.name": "javascript" }),
  spanProcessors: [new BatchSpanProcessor(exporter), teller],
});
const tracer = provider.getTracer("hand");
const root = tracer.startSpan("ask", { kind: api.SpanKind.SERVER, attributes: { "session.id": "c1" } });
const call = tracer.startSpan(
  "call",
  {
    kind: api.SpanKind.CLIENT,
    links: [{ context: root.spanContext() }],
    attributes: {
      "ai.operationId": "ai.streamText.doStream",
      "ai.model.id": "model-1",
      "ai.model.provider": "anthropic",
      "ai.usage.promptTokens": 11,
      "ai.usage.completionTokens": 7,
      "ai.response.msToFirstChunk": 50.25,
      "ai.response.finishReason": "stop",
      s: "é世",
      i: 2 ** 53 - 1,
      f: 1.5,
      b: true,
      l: ["a", "b"],
      n: [1, 2],
      empty: "",
    },
  },
  api.trace.setSpan(api.context.active(), root),
);
call.addEvent("happened", { k: 1 });
call.setStatus({ code: api.SpanStatusCode.ERROR, message: "too bad" });
call.end();
root.end();
await provider.shutdown();
console.log(`TOLD ${JSON.stringify({ spans: told })}`);
