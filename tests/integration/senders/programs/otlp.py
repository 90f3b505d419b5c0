"""The official exporters: `otlp.py http|grpc URL gzip|none`."""

import sys

from by_hand import send
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from told import Told

protocol, url, compression = sys.argv[1:]
if protocol == "grpc":
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    kind = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
    exporter = OTLPSpanExporter(endpoint=url, insecure=True, compression=kind)
else:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    exporter = OTLPSpanExporter(
        f"{url}/v1/traces", compression=Compression.Gzip if compression == "gzip" else Compression.NoCompression
    )
provider = TracerProvider(resource=Resource.create({"service.name": "python"}))
provider.add_span_processor(BatchSpanProcessor(exporter))
told = Told()
provider.add_span_processor(told)
send(provider.get_tracer("hand"))
provider.shutdown()
told.tell()
