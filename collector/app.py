"""The composition root of the collector: settings to a running application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TypeVar

from litestar import Litestar
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from collector.alerts import http as alerting
from collector.alerts.alerts import Alerts, Wanted
from collector.db import http as upkeep
from collector.derive.deriver import Deriver
from collector.lake.registrar import Registrar, check_lake
from collector.metrics import Metrics
from collector.receive import http as otlp
from collector.receive.attributes import AttributeLimits
from collector.receive.grpc_server import GrpcServer
from collector.receive.receiver import Receiver
from collector.receive.tokens import Tokens
from collector.settings import MIB, CollectorSettings
from collector.sql import http as sql
from collector.sql.surface import LOST_FILE, QueryError, SqlSurface
from collector.store.append import Appended
from collector.store.batches import Batch
from collector.store.publisher import Publisher
from collector.store.retention import Keep
from collector.store.store import Store
from collector.writer import Writer
from lastword import __version__

T = TypeVar("T")
GRPC_DRAIN_S = 5.0
"""How long requests over gRPC may take to end when the collector does, in seconds."""


def keep_of(settings: CollectorSettings) -> Keep:
    """How long rows are kept, by the settings."""
    return Keep(
        spans_days=settings.spans_days,
        turns_days=settings.turns_days,
        rollups_days=settings.rollups_days,
        content_days=settings.content_days,
        content_bytes=settings.content_mib * MIB,
    )


def receiver_of(settings: CollectorSettings, writer: Writer, metrics: Metrics, *, stored: Callable[[Batch], None]) -> Receiver:
    """What takes OTLP requests, by the settings."""
    return Receiver(
        writer,
        metrics,
        limits=AttributeLimits(settings.max_attributes, settings.max_attribute_chars),
        max_content_chars=settings.max_content_chars,
        max_body_bytes=settings.max_body_bytes,
        max_requests=settings.max_requests,
        decoders=settings.decoders,
        stored=stored,
        tokens=Tokens(settings.tokens),
    )


def registrar_of(settings: CollectorSettings, store: Store, metrics: Metrics) -> Registrar | None:
    """What registers segments in the lake, by the settings, with its metrics; none where there is no lake."""
    if not settings.lake_dsn:
        return None
    lake = Registrar(store, dsn=settings.lake_dsn, path=settings.lake_path, every_ms=settings.lake_ms)
    metrics.gauge("lastword_lake_files", "Segments that are registered in the lake.", lambda: lake.state.files)
    metrics.gauge("lastword_lake_failures", "Registrations that failed since the start.", lambda: lake.state.failures)
    metrics.gauge("lastword_lake_seconds", "Length of the last registration.", lambda: lake.state.seconds)
    metrics.gauge("lastword_lake_age_seconds", "Time since the last registration; -1 before the first.", lake.age_s)
    return lake


class Parts:
    """Everything of the process that has to be closed."""

    def __init__(self, settings: CollectorSettings) -> None:
        self.settings = settings
        self.metrics = Metrics()
        check_lake(settings.lake_dsn, settings.lake_path, settings.store_path)
        self.store = Store(
            settings.store_path,
            memory_limit_mib=settings.memory_limit_mib,
            threads=settings.threads,
            abandoned_grace_ms=settings.abandoned_grace_ms,
            dedup_keys=settings.dedup_keys,
        )
        self._last_commit_s = 0.0
        self._failing = False
        self.writer = Writer(
            self.store,
            queue_rows=settings.queue_rows,
            commit_rows=settings.commit_rows,
            commit_wait_ms=settings.commit_wait_ms,
            hot_rows=settings.hot_rows,
            observe=self._committed,
        )
        self.lake = registrar_of(settings, self.store, self.metrics)
        self.publisher = Publisher(
            self.store,
            self.writer,
            every_ms=settings.publish_ms,
            keep=keep_of(settings),
            removable=list if self.lake is None else self.lake.removable,
        )
        self.deriver = Deriver(self.store, self.writer, settle_ms=settings.spans_settle_ms, max_traces=settings.spans_traces)
        self.receiver = receiver_of(settings, self.writer, self.metrics, stored=self.deriver.stored)
        self.alerts = Alerts(
            self.store,
            self.writer,
            self.metrics.registry,
            Wanted(
                objective=settings.alerts_objective,
                settle_s=settings.alerts_settle_s,
                rules_file=settings.alerts_rules,
                alertmanager_url=settings.alerts_alertmanager_url,
                webhook_url=settings.alerts_webhook_url,
                webhook_secrets=settings.alerts_webhook_secrets,
                slack_url=settings.alerts_slack_url,
                dashboard_url=settings.dashboard_url,
            ),
        )
        self.surface = SqlSurface(
            self.store,
            concurrency=settings.sql_concurrency,
            waiting=settings.sql_waiting,
            max_rows=settings.sql_max_rows,
            max_bytes=settings.sql_max_bytes,
            timeout_ms=settings.sql_timeout_ms,
            storing=lambda: self.writer.busy,
        )
        self.started_at = datetime.now(UTC)
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="reader")
        self.metrics.gauge("lastword_writer_waiting_rows", "Rows that wait for a commit.", lambda: self.writer.waiting_rows)

        self.metrics.gauge("lastword_store_failing", "1 while the last commit has failed.", lambda: float(self._failing))
        self.metrics.gauge("lastword_hot_rows", "Rows that are not published yet.", lambda: self.store.hot_rows)
        for name, text, read in (
            ("lastword_segments", "Segments that count.", lambda: self.publisher.state.segments),
            ("lastword_segment_bytes", "Bytes of the segments that count.", lambda: self.publisher.state.bytes),
            (
                "lastword_pruned_rows",
                "Rows that were removed because they were overdue, since the start.",
                lambda: self.publisher.pruned.rows,
            ),
            (
                "lastword_decoders_ended",
                "Decoders that ended without being asked to, since the start.",
                lambda: self.receiver.decoders_ended,
            ),
            ("lastword_publish_seconds", "Length of the last publication.", lambda: self.publisher.state.seconds),
            (
                "lastword_checkpoint_failures",
                "Times that the log did not go into the hot file, since the start.",
                lambda: self.store.file.checkpoint_failures,
            ),
            ("lastword_publish_failures", "Publications that failed since the start.", lambda: self.publisher.state.failures),
            ("lastword_traces_waiting", "Foreign traces that will be looked at for a turn.", lambda: self.deriver.waiting),
            (
                "lastword_traces_dropped",
                "Foreign traces that were let go before their turn was made.",
                lambda: self.deriver.dropped,
            ),
            (
                "lastword_derive_failures",
                "Times that turns of spans could not be made and were tried again.",
                lambda: self.deriver.failures,
            ),
        ):
            self.metrics.gauge(name, text, read)

    def _committed(self, appended: Appended | None, seconds: float) -> None:
        self._failing = appended is None
        if appended is None:
            self.metrics.commit_failed()
        else:
            self._last_commit_s = seconds
            self.metrics.committed(appended, seconds)

    def lag_ms(self) -> int:
        """How long a row waits until it can be queried, in milliseconds, by the last commit."""
        return round(self.settings.commit_wait_ms + self._last_commit_s * 1000)

    async def read(self, work: Callable[[], T]) -> T:
        """Runs a short blocking read in threads of our own."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work)

    def close(self) -> None:
        """Commits and publishes what was received, then closes the file."""
        self.receiver.draining = True
        self.receiver.close()
        self.deriver.close()
        self.alerts.close()
        self.publisher.close()
        if self.lake is not None:
            self.lake.close()
        self.writer.close()
        self.surface.close()
        self._readers.shutdown()
        self.store.close()


def create_app(parts: Parts) -> Litestar:
    """The application over its parts. Its life is theirs."""

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        server = None
        try:
            if parts.settings.grpc_port:
                server = GrpcServer(
                    parts.receiver,
                    host=parts.settings.host,
                    port=parts.settings.grpc_port,
                    max_streams=parts.settings.max_requests,
                )
                await server.start()
            if parts.settings.alerts:
                await parts.read(parts.alerts.start)
            yield
        finally:
            parts.receiver.draining = True
            if server is not None:
                await server.stop(GRPC_DRAIN_S)
            parts.close()

    handlers = [
        *(otlp.traces, otlp.logs, otlp.metrics),
        *(sql.run_sql, sql.status, sql.live, sql.ready, sql.prometheus),
        *(upkeep.publish, upkeep.prune),
        *(alerting.silence, alerting.end_silence, alerting.test),
    ]
    state = {
        "receiver": parts.receiver,
        "surface": parts.surface,
        "store": parts.store,
        "writer": parts.writer,
        "publisher": parts.publisher,
        "metrics": parts.metrics,
        "alerts": parts.alerts,
        "read": parts.read,
        "lag_ms": parts.lag_ms,
        "started_at": parts.started_at,
    }
    return Litestar(
        handlers,
        state=State(state),
        lifespan=[lifespan],
        exception_handlers={
            QueryError: sql.on_query_error,
            HTTPException: sql.on_http_exception,
            **dict.fromkeys(LOST_FILE, sql.on_lost_file),
        },
        request_max_body_size=None,  # the receiver counts bytes itself, after inflation
        openapi_config=OpenAPIConfig(
            title="Lastword collector", version=__version__, path="/schema", render_plugins=[JsonRenderPlugin()]
        ),
        logging_config=None,
    )
