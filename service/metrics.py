"""What the service says of itself on /metrics, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from lastword.events import Done, Error

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60, 120)


class Metrics:
    """The process's counters, in a registry of their own. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._turns = Counter(
            "lastword_turns", "Turns that ended.", ["route", "model_tier", "status", "reason"], registry=self.registry
        )
        self._rejected = Counter(
            "lastword_turns_rejected", "Requests that were refused before ack.", ["status"], registry=self.registry
        )
        self._first_token = Histogram(
            "lastword_first_token_seconds",
            "Acceptance to first visible chunk.",
            ["route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._total = Histogram(
            "lastword_turn_seconds", "Length of a turn.", ["route"], buckets=_SECONDS, registry=self.registry
        )
        self._tokens = Counter("lastword_tokens", "Tokens by direction.", ["model_tier", "direction"], registry=self.registry)
        self._attempts = Counter(
            "lastword_attempts", "Tries at the model by outcome.", ["model_tier", "outcome"], registry=self.registry
        )

        self._dropped = Counter(
            "lastword_viewers_dropped", "Viewers that took nothing for longer than the send timeout.", registry=self.registry
        )

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A value that is read whenever /metrics is."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def rejected(self, status: int) -> None:
        """A request was answered with an HTTP status instead of a turn."""
        self._rejected.labels(str(status)).inc()

    def viewer_dropped(self) -> None:
        """A viewer was cut off because it did not read."""
        self._dropped.inc()

    def ended(self, terminal: Done | Error) -> None:
        """A turn has its terminal."""
        metadata = terminal.metadata
        status = terminal.metadata.completion_status.value if isinstance(terminal, Done) else "error"
        route, tier = metadata.route or "none", metadata.model_tier or "none"
        self._turns.labels(route, tier, status, metadata.reason.value if metadata.reason else "none").inc()
        self._total.labels(route).observe(metadata.stage_timings.total_ms / 1000)
        if metadata.stage_timings.first_token_ms is not None:
            self._first_token.labels(route).observe(metadata.stage_timings.first_token_ms / 1000)
        self._tokens.labels(tier, "input").inc(metadata.usage.input_tokens)
        self._tokens.labels(tier, "output").inc(metadata.usage.output_tokens)
        for attempt in metadata.attempts:
            self._attempts.labels(attempt.model_tier, attempt.outcome).inc()

    def render(self) -> bytes:
        """The Prometheus text."""
        return generate_latest(self.registry)
