"""Weighing a body counts what decoding it would make, and stops at the limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from collector.receive import weight
from tests.support.otlp import spans

KIND = ExportTraceServiceRequest.DESCRIPTOR


@pytest.fixture(autouse=True)
def light(monkeypatch):
    """Bodies of any size are weighed."""
    monkeypatch.setattr(weight, "SMALL_BYTES", 0)


def test_every_message_of_a_request_counts(monkeypatch):
    """Resource, scope, spans, and their attributes with their values: refused above the limit, and not at it."""
    body = spans(3).SerializeToString()
    # resource spans, resource, its attribute and value; scope spans; three spans, each with an attribute and its value
    parts = 4 + 1 + 3 * 3
    monkeypatch.setattr(weight, "MAX_PARTS", parts)
    assert not weight.heavy_protobuf(body, KIND)
    monkeypatch.setattr(weight, "MAX_PARTS", parts - 1)
    assert weight.heavy_protobuf(body, KIND)


def test_values_of_json_count(monkeypatch):
    """Every value stands behind one of three signs."""
    monkeypatch.setattr(weight, "MAX_PARTS", 3)
    assert not weight.heavy_json(b'{"a":[1,2]}')
    assert weight.heavy_json(b'{"a":[1,2,3]}')


def test_small_body_is_not_weighed(monkeypatch):
    """Whatever it holds, it cannot become much."""
    monkeypatch.setattr(weight, "SMALL_BYTES", 10_000)
    monkeypatch.setattr(weight, "MAX_PARTS", 0)
    assert not weight.heavy_protobuf(spans(3).SerializeToString(), KIND)
    assert not weight.heavy_json(b"[1,2]")


@given(st.binary(max_size=200) | st.builds(lambda at: spans(2).SerializeToString()[:at], st.integers(0, 300)))
def test_garbage_is_left_to_the_decoder(body):
    """Malformed or cut short: an answer, never an error."""
    assert weight.heavy_protobuf(body, KIND) is False
