"""The spans that every lane gets: realistic turns, 512 spans a request, 15 attributes a span, as protobuf. Made once, before anything is measured."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime

from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from collector.synthetic.requests import span_request
from collector.synthetic.turns import synthesize
from collector.synthetic.world import SyntheticTurn

SPANS_A_REQUEST = 512
ATTRIBUTES = 15
_TURNS_AT_A_TIME = 200
_COMMON = (
    ("deployment.environment.name", "production"),
    ("cloud.region", "eu-central-1"),
    ("k8s.pod.name", "turns-7c9d8f6b5-x2x{}"),
    ("k8s.namespace.name", "chat"),
    ("server.address", "10.0.0.{}"),
    ("http.request.method", "POST"),
    ("url.path", "/v1/turns"),
    ("user_agent.original", "lastword-client/0.{}"),
    ("session.id", "ses_{:032x}"),
    ("user.id", "usr_{:08x}"),
    ("thread.name", "worker-{}"),
    ("code.function.name", "run"),
    ("lastword.viewer.count", "1"),
    ("feature_flag.key", "stream-{}"),
)
"""What a span bears beside its own, until it has enough: some the same everywhere, some of many values."""


class Request(Struct, frozen=True):
    """A body, and how many spans are in it."""

    body: bytes
    spans: int


def requests(spans: int, *, seed: int = 7) -> list[Request]:
    """Requests of so many spans in all."""
    made: list[Request] = []
    left = spans
    whole = _spans(seed, max(200, spans // 10))
    while left:
        count = min(SPANS_A_REQUEST, left)
        request = ExportTraceServiceRequest()
        scope = request.resource_spans.add().scope_spans.add()
        request.resource_spans[0].resource.attributes.add(key="service.name").value.string_value = "chat"
        scope.scope.name = "lastword.service"
        scope.spans.extend(next(whole) for _ in range(count))
        made.append(Request(request.SerializeToString(), count))
        left -= count
    return made


def _spans(seed: int, turns: int) -> Iterator[Span]:
    batch = []
    for turn in synthesize(turns, seed=seed, end=datetime.now(UTC), hours=1):
        batch.append(turn)
        if len(batch) == _TURNS_AT_A_TIME:
            yield from _filled(batch)
            batch = []
    yield from _filled(batch)


def _filled(batch: list[SyntheticTurn]) -> Iterator[Span]:
    for scope in span_request(batch).resource_spans[0].scope_spans:
        for span in scope.spans:
            number = int.from_bytes(hashlib.blake2b(span.trace_id, digest_size=8).digest(), "big")
            for key, value in _COMMON[: ATTRIBUTES - len(span.attributes)]:
                span.attributes.add(key=key).value.string_value = value.format(number if "x}" in value else number % 10)
            yield span
