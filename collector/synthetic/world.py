"""What synthetic turns are made of: routes, tiers, pages to cite, and the values that a turn is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from lastword.events import ServiceInfo, TurnAccepted, TurnDone

MS = 1_000_000
INCIDENT = (0.62, 0.7)
"""Where in the span of time the incident lies: the provider of the smart tier is overloaded."""

SERVICE = ServiceInfo(name="lastword", version="0.1.0", instance="synthetic-1")
MODELS = {"smart": "claude-sonnet-5-5", "fast": "claude-haiku-5-5"}


@dataclass(frozen=True)
class Route:
    """What is typical of a route."""

    name: str
    weight: float
    tiers: tuple[str, ...]
    tools: tuple[str, ...] = ()
    retrieval: bool = True
    stream_ms: float = 1800


ROUTES = (
    Route("knowledge", 4, ("smart", "fast"), ("search_knowledge", "calculate", "current_time"), stream_ms=2600),
    Route("troubleshooting", 3, ("smart", "fast"), ("search_knowledge",), stream_ms=3400),
    Route("lookup", 3, ("fast", "smart"), ("search_knowledge",), stream_ms=900),
    Route("calculation", 1.2, ("fast",), ("calculate", "current_time"), retrieval=False, stream_ms=350),
)
PAGES = (
    ("https://docs.example.org/turns/retry", "Retries before and after the first token", "docs.example.org"),
    ("https://docs.example.org/turns/partial", "What a partial answer is", "docs.example.org"),
    (
        "https://handbook.example.net/on-call/overload",
        "Provider overload: what to do in the first ten minutes",
        "handbook.example.net",
    ),
    ("https://docs.example.org/telemetry/spans", "The span tree of a turn", "docs.example.org"),
    ("https://kb.example.com/a/1042", "Streams that stop early behind a proxy", "kb.example.com"),
    ("https://docs.example.org/sources", "How sources are ordered", "docs.example.org"),
    ("https://handbook.example.net/limits", "Limits and quotas", "handbook.example.net"),
    ("https://kb.example.com/a/2077", "Cancel and disconnect", "kb.example.com"),
)


@dataclass
class Node:
    """One span. Times are nanoseconds since acceptance."""

    name: str
    start: int
    end: int
    attributes: dict[str, Any] = field(default_factory=dict)
    kind: int = Span.SPAN_KIND_INTERNAL
    error: str | None = None
    events: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)


@dataclass
class SyntheticTurn:
    """A turn as its two records and its span tree. `done` is none for a turn that never ends."""

    start_ns: int
    accepted: TurnAccepted
    root: Node
    done: TurnDone | None
