"""What a turn's worker needs from its process, put together by the composition root."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from lastword.events import ServiceInfo
from service.access.callers import Callers
from service.clock import Clock
from service.providers.port import Passage, Provider
from service.routes import RouteTable
from service.run.turn import Turn
from service.settings import ServiceSettings
from service.store.store import TurnStore
from service.tools.registry import ToolRegistry
from service.watchdog import Watchdog


class Searcher(Protocol):
    """Finds passages for a question."""

    def search(self, query: str, limit: int = 5) -> tuple[Passage, ...]:
        """At most `limit` passages of distinct URLs, the best first."""
        ...


class Deps(Struct, frozen=True, kw_only=True):
    """The worker's surroundings. Everything in here is safe to use from many threads."""

    settings: ServiceSettings
    info: ServiceInfo
    clock: Clock
    rng: random.Random
    store: TurnStore
    callers: Callers
    routes: RouteTable
    knowledge: Searcher
    tools: ToolRegistry
    provider: Provider
    watchdog: Watchdog
    record_stored: Callable[[], None]  # wakes the outbox
    turn_ended: Callable[[Turn], None]  # spans and metrics; must not raise
