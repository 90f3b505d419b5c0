"""The composition root: settings to a running application. The only place that chooses real parts."""

from __future__ import annotations

import logging
import os
import random
import secrets
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from litestar import Litestar, Router
from litestar.datastructures import State
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from lastword import __version__
from lastword.errors import SettingsError
from lastword.events import ServiceInfo
from service.access.callers import Callers
from service.access.keys import KeyBook
from service.access.static import parse_static_keys
from service.clock import Clock, SystemClock, as_datetime
from service.directory import TurnDirectory
from service.http import edge, house, page, turns
from service.http.documented import COMPONENTS, SECURITY
from service.http.problem import on_exception, on_http_exception, on_rejected, on_undecodable
from service.keeper import Keeper, Retention
from service.metrics import Metrics
from service.mirrors import Mirrors
from service.outbox import HttpSender, Outbox
from service.problems import Rejected
from service.providers.extractive import ExtractiveProvider
from service.providers.faults import FaultPlan, parse_faults
from service.providers.port import Provider
from service.recovery import recover
from service.retrieval.index import KnowledgeIndex
from service.routes import DEFAULT_FILE, load_routes
from service.run.deps import Deps
from service.service import Neighbours, TurnService
from service.settings import ServiceSettings
from service.store.ahead import AheadFile
from service.store.bus import Bus
from service.store.engine import migrate, open_engine
from service.store.instances import InstanceStore
from service.store.store import TurnStore
from service.store.writer import GroupWriter
from service.telemetry import Telemetry, otlp_exporter, read_rejections
from service.tools.builtins import default_registry
from service.tools.own import load_tools
from service.tools.registry import ToolRegistry
from service.watchdog import Watchdog
from service.workers import WorkerPool

logger = logging.getLogger(__name__)

_FLUSH_S = 3.0


class Parts:
    """Everything of the process that has to be closed, in the order in which it is. `provider` stands in for the one that the settings name."""

    def __init__(self, settings: ServiceSettings, provider: Provider | None = None) -> None:
        clock = SystemClock()
        info = ServiceInfo(
            name="lastword", version=__version__, instance=f"{os.uname().nodename}-{os.getpid()}-{secrets.token_hex(2)}"
        )
        rng = random.Random()
        faults = parse_faults(settings.faults, seed=settings.faults_seed, by_request=settings.faults_by_request)
        self.tools = registry_of(settings, clock, faults)
        self.provider = provider or _provider(settings, faults)
        routes = load_routes(
            Path(settings.routes_file) if settings.routes_file else DEFAULT_FILE, settings.provider, self.tools.names
        )
        engine = open_engine(settings.sqlalchemy_url)
        migrate(engine)
        bus = Bus(engine)
        self.callers = _callers(settings, KeyBook(engine), clock)
        self.writer = GroupWriter(engine, bus.tell_turns)
        self.ahead = AheadFile(engine)
        self.ahead.open()
        self.store = TurnStore(engine, self.writer, bus.tell_turns, self.ahead)
        instances = InstanceStore(engine, self.writer, bus, info.instance)
        self.index = KnowledgeIndex(settings.index_path, settings.docs_url)
        self.telemetry = Telemetry(
            info,
            otlp_exporter(settings.collector_url, settings.collector_token),
            sample_ratio=settings.trace_sample_ratio,
            continue_parent=settings.trust_traceparent,
        )
        self.sender = HttpSender(
            settings.collector_url, self.telemetry.encode_records, read_rejections, token=settings.collector_token
        )
        self.outbox = Outbox(self.store, self.sender, rng)
        self.watchdog = Watchdog(clock)
        self.metrics = Metrics()
        deps = Deps(
            settings=settings,
            info=info,
            clock=clock,
            rng=rng,
            store=self.store,
            callers=self.callers,
            routes=routes,
            knowledge=self.index,
            tools=self.tools,
            provider=self.provider,
            watchdog=self.watchdog,
            record_stored=self.outbox.wake,
            turn_ended=lambda turn: self.service.turn_ended(turn),  # noqa: PLW0108 - the service is made below
        )
        self.mirrors = Mirrors(self.store, instances, notified=lambda: bus.supported)
        self.service = TurnService(
            deps,
            telemetry=self.telemetry,
            pool=WorkerPool(settings.max_turns),
            directory=TurnDirectory(
                clock, min(settings.log_memory_s, settings.log_retention_s), max_bytes=settings.log_memory_bytes
            ),
            metrics=self.metrics,
            neighbours=Neighbours(instances, self.mirrors, bus),
        )
        self.bus = bus
        self.keeper = Keeper(
            instances,
            Retention(log_s=settings.log_retention_s, turn_s=settings.turn_retention_s),
            recover=self._recover,
            leased=self.ahead.lease,
            cancel=self.service.cancel_here,
        )
        self.corpus = settings.corpus_path
        self._index_built = threading.Event()
        _register_gauges(self)

    def start(self) -> None:
        """Begins what works in the background: what a crash left open is closed first."""
        self.bus.listen(self.mirrors.hint, self.service.cancel_here)
        self.keeper.start()
        threading.Thread(target=self.build_index, name="index", daemon=True).start()

    def _recover(self, turn_ids: list[str]) -> int:
        settings = self.service.deps.settings
        self.ahead.open()  # it may have been that of the process that is gone
        closed = recover(
            self.store,
            turn_ids,
            kept=self.ahead.read(),
            info=self.service.deps.info,
            now=as_datetime(self.service.deps.clock.wall_ns()),
            max_content_chars=settings.max_content_chars if settings.capture_content else 0,
        )
        self.outbox.wake()
        return closed

    def index_ready(self) -> bool:
        """Whether questions can be answered from the corpus."""
        return self._index_built.is_set()

    def build_index(self) -> None:
        """Brings the index up to date with its corpus; runs in a thread of its own while the process starts.

        Without a corpus in the settings, the one that the index was built from last is kept: `lastword index PATH` is not undone by a restart.
        """
        try:
            last = self.index.stats().corpus
            if not self.service.deps.settings.corpus and last is not None and last.exists():
                self.corpus = last
            report = self.index.refresh(self.corpus)
            logger.info(
                "index of %s: %d files, %d passages, %d skipped",
                self.corpus,
                report.files,
                report.passages,
                report.skipped_count,
            )
        except Exception:  # the boundary of this thread: the service then answers without evidence, and says so
            logger.exception("the index of %s could not be built", self.corpus)
        finally:
            self._index_built.set()

    def close(self, drain_s: float) -> None:
        """Ends turns, then sends what is left to the collector, then closes what they stood on."""
        self.service.drain(drain_s)
        self.keeper.close()
        self.bus.close()
        self.outbox.close(_FLUSH_S)
        self.telemetry.close(round(_FLUSH_S * 1000))
        self.watchdog.close()
        self.sender.close()
        self.provider.close()
        self.tools.close()
        self.index.close()
        self.store.close()


def registry_of(settings: ServiceSettings, clock: Clock, faults: FaultPlan) -> ToolRegistry:
    """The built-in tools and the operator's own.

    Raises:
        SettingsError: a tool of the operator's own cannot be loaded, or has the name of a built-in one.
    """
    try:
        return default_registry(
            clock.mono_ns,
            before=faults.before_tool if settings.provider == "extractive" else None,
            more=load_tools(settings.tool_modules),
        )
    except ValueError as error:
        raise SettingsError(f"LASTWORD_SERVICE_TOOLS: {error}") from error


def _provider(settings: ServiceSettings, faults: FaultPlan) -> Provider:
    if settings.provider == "extractive":
        return ExtractiveProvider(pace_ms=settings.pace_ms, faults=faults)
    key = os.environ.get("ANTHROPIC_API_KEY", "")
    if not key:
        raise SettingsError("LASTWORD_SERVICE_PROVIDER=anthropic needs ANTHROPIC_API_KEY in the environment")
    from service.providers.anthropic_provider import AnthropicProvider  # its SDK takes a second to import

    return AnthropicProvider(api_key=key, base_url=settings.anthropic_base_url or None)


def _callers(settings: ServiceSettings, book: KeyBook, clock: Clock) -> Callers:
    static = parse_static_keys(settings.api_keys)
    if not settings.on_loopback and not static and not book.count_usable(as_datetime(clock.wall_ns())):
        raise SettingsError(
            f"LASTWORD_SERVICE_HOST={settings.host} can be reached from other machines, and there is no key, so anyone could ask. "
            "Make one with `lastword keys create --name NAME` (with the same LASTWORD_DATA_DIR or LASTWORD_SERVICE_DATABASE_URL), "
            "or set LASTWORD_SERVICE_API_KEYS"
        )
    return Callers(book, static, clock, cache_s=settings.key_cache_s, open_on_loopback=settings.on_loopback)


def _register_gauges(parts: Parts) -> None:
    gauge = parts.metrics.gauge
    gauge("lastword_active_turns", "Turns that run.", lambda: parts.service.active_turns)
    gauge("lastword_turn_capacity", "Most turns at a time.", lambda: parts.service.capacity)
    gauge("lastword_threads", "Threads of the process.", threading.active_count)
    gauge("lastword_outbox_depth", "Turn records that wait for the collector.", lambda: parts.store.outbox_depth()[0])
    gauge("lastword_outbox_refused", "Turn records that the collector refused.", lambda: parts.store.outbox_depth()[1])
    gauge("lastword_spans_sent", "Spans that the collector has taken.", lambda: parts.telemetry.exporter.sent)
    gauge("lastword_spans_lost", "Spans that could not be sent and are gone.", lambda: parts.telemetry.exporter.lost)
    gauge("lastword_turns_recovered", "Turns of dead instances that were closed here.", lambda: parts.keeper.recovered)
    gauge("lastword_instances", "Instances on this database, this one included.", lambda: parts.bus.peers + 1)
    gauge("lastword_commits", "Transactions of the writer.", lambda: parts.writer.commits)
    gauge("lastword_outbox_sent", "Turn records that the collector has acknowledged.", lambda: parts.outbox.sent)


def create_app(parts: Parts) -> Litestar:
    """The application over its parts. Its life is theirs: they are closed when it ends."""
    settings = parts.service.deps.settings

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        parts.start()
        try:
            yield
        finally:
            parts.close(settings.drain_s)

    contract = Router(
        "/",
        route_handlers=[
            turns.create_turn,
            turns.follow_turn,
            turns.look_at_turn,
            turns.cancel_turn,
            turns.look_at_conversation,
        ],
        guards=[edge.speaks_contract],
    )
    handlers: list[Router | HTTPRouteHandler] = [
        contract,
        house.live,
        house.ready,
        house.metrics,
        house.turn_contract,
        house.document,
        *page.handlers(settings, parts.service.deps.routes.names),
    ]
    return Litestar(
        handlers,
        state=State({"service": parts.service, "index_ready": parts.index_ready, "corpus": lambda: parts.corpus}),
        lifespan=[lifespan],
        exception_handlers={
            Rejected: on_rejected,
            HTTPException: on_http_exception,
            RecursionError: on_undecodable,
            UnicodeDecodeError: on_undecodable,
            Exception: on_exception,
        },
        request_max_body_size=settings.max_body_bytes,
        before_send=[edge.protect],
        cors_config=edge.cors(settings.origins),
        openapi_config=OpenAPIConfig(
            title="Lastword turn service",
            version=__version__,
            path="/schema",
            render_plugins=[JsonRenderPlugin()],
            components=COMPONENTS,
            security=SECURITY,
        ),
        logging_config=None,
    )
