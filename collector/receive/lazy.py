"""Spans whose attributes stay bytes until somebody asks: the OTLP schema with one field less decoded. Pure.

On the wire a message and a byte string look the same. A span's fifteen attributes are most of what there is to decode, and most of them have been seen before, so they are
taken as bytes and looked up. Knows the published schema by its descriptors alone, so that it follows it.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.resource.v1 import resource_pb2
from opentelemetry.proto.trace.v1 import trace_pb2


def _lazy_request() -> Any:
    pool = DescriptorPool()
    for module in (common_pb2, resource_pb2, trace_pb2, trace_service_pb2):
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        if module is trace_pb2:
            (span,) = (message for message in file.message_type if message.name == "Span")
            (attributes,) = (field for field in span.field if field.name == "attributes")
            attributes.type = FieldDescriptorProto.TYPE_BYTES
            attributes.ClearField("type_name")
        pool.Add(file)
    name = trace_service_pb2.ExportTraceServiceRequest.DESCRIPTOR.full_name
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


LazyRequest: Any = _lazy_request()
"""`ExportTraceServiceRequest`, where `span.attributes` are serialized `KeyValue` messages."""
