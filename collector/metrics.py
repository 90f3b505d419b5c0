"""What the collector says of itself on /metrics, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from collector.store.append import Appended

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """The collector's counters. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("lastword_otlp_requests", "OTLP requests.", ["signal", "status"], registry=self.registry)
        self._stored = Counter("lastword_rows_stored", "Rows that were stored.", ["table"], registry=self.registry)
        self._duplicates = Counter(
            "lastword_rows_duplicate", "Rows that were stored already.", ["table"], registry=self.registry
        )
        self._rejected = Counter(
            "lastword_items_rejected", "Spans and records that cannot be stored.", ["signal"], registry=self.registry
        )
        self._foreign = Counter(
            "lastword_log_records_foreign", "Log records that are no turn records; not stored.", registry=self.registry
        )
        self._points = Counter("lastword_metrics_received", "Metrics received; not stored.", registry=self.registry)
        self._failed = Counter(
            "lastword_commits_failed", "Commits that failed; their senders were answered 503.", registry=self.registry
        )
        self._commit = Histogram("lastword_commit_seconds", "Length of a commit.", buckets=_SECONDS, registry=self.registry)

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """A value that is read whenever /metrics is."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def request(self, signal: str, status: int | str) -> None:
        """An OTLP request was answered: with an HTTP status, or over gRPC with the name of a code."""
        self._requests.labels(signal, str(status)).inc()

    def committed(self, appended: Appended, seconds: float) -> None:
        """A commit is done."""
        self._commit.observe(seconds)
        for table, rows in appended.stored.items():
            self._stored.labels(table).inc(rows)
        for table, rows in appended.duplicates.items():
            self._duplicates.labels(table).inc(rows)

    def commit_failed(self) -> None:
        """A commit failed, and nothing of it is stored."""
        self._failed.inc()

    def rejected(self, signal: str, count: int) -> None:
        """Items of a request cannot be stored."""
        self._rejected.labels(signal).inc(count)

    def foreign(self, count: int) -> None:
        """Log records that are none of ours."""
        self._foreign.inc(count)

    def points(self, count: int) -> None:
        """Metrics that were received and not stored."""
        self._points.inc(count)

    def render(self) -> bytes:
        """The Prometheus text."""
        return generate_latest(self.registry)
