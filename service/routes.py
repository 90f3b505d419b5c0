"""Routes: what a turn may do and cost, read from one TOML file and checked at start.

A route is chosen by the caller's wish, else by the first rule that matches the message. Pure once loaded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from lastword.errors import SettingsError

DEFAULT_FILE = Path(__file__).parent / "routes.toml"

Positive = Annotated[int, Meta(gt=0)]


class Retrieval(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What evidence a route fetches before the model is asked."""

    top_k: Annotated[int, Meta(ge=1, le=20)] = 5
    data_source: str = "knowledge"


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One route. Times in milliseconds."""

    name: Annotated[str, Meta(pattern="^[a-z][a-z0-9_-]{0,63}$")]
    tiers: Annotated[tuple[str, ...], Meta(min_length=1)]
    match: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    retrieval: Retrieval | None = None
    fallback: str | None = None
    system: str = ""
    deadline_ms: Positive = 60_000
    first_token_timeout_ms: Positive = 15_000
    stall_timeout_ms: Positive = 10_000
    attempts_per_tier: Annotated[int, Meta(ge=1, le=10)] = 2
    backoff_base_ms: Positive = 250
    backoff_cap_ms: Positive = 4_000
    max_model_calls: Annotated[int, Meta(ge=1, le=32)] = 6
    max_tool_calls: Annotated[int, Meta(ge=0, le=64)] = 8
    max_pauses: Annotated[int, Meta(ge=0, le=16)] = 3
    max_output_tokens: Positive = 1024
    max_sources: Annotated[int, Meta(ge=1, le=50)] = 5


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    tiers: dict[str, dict[str, str]]
    routes: Annotated[tuple[Route, ...], Meta(min_length=1)]


class RouteTable:
    """All routes, with the models of the provider that is switched on."""

    def __init__(self, routes: Iterable[Route], models: dict[str, str]) -> None:
        self._routes = {route.name: route for route in routes}
        self._rules = [
            (re.compile("|".join(route.match), re.IGNORECASE), route) for route in self._routes.values() if route.match
        ]
        self._models = models

    @property
    def names(self) -> list[str]:
        """The names of all routes, in order."""
        return list(self._routes)

    def choose(self, message: str, wish: str | None) -> Route:
        """The wished route where there is one of that name, else the first whose rule matches, else the last."""
        if wish is not None and wish in self._routes:
            return self._routes[wish]
        for rule, route in self._rules:
            if rule.search(message):
                return route
        return next(reversed(self._routes.values()))

    def model(self, tier: str) -> str:
        """The model of a tier."""
        return self._models[tier]


def load_routes(path: Path, provider: str, known_tools: Iterable[str]) -> RouteTable:
    """Reads and checks the routes file.

    Raises:
        SettingsError: the file cannot be read, or says something that cannot work. The message names the place.
    """
    try:
        file = msgspec.toml.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise SettingsError(f"routes file {path}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise SettingsError(f"routes file {path}: {error}") from error
    models = {tier: by_provider[provider] for tier, by_provider in file.tiers.items() if provider in by_provider}
    seen: set[str] = set()
    for route in file.routes:
        if route.name in seen:
            raise SettingsError(f"routes file {path}: route {route.name!r} stands there twice")
        seen.add(route.name)
        _check_route(route, f"routes file {path}: route {route.name!r}", provider, models, set(known_tools))
    if file.routes[-1].match:
        raise SettingsError(f"routes file {path}: the last route takes what no rule matched, so it has no `match`")
    return RouteTable(file.routes, models)


def _check_route(route: Route, where: str, provider: str, models: dict[str, str], tools: set[str]) -> None:
    for tier in route.tiers:
        if tier not in models:
            raise SettingsError(f"{where}: tier {tier!r} names no model for provider {provider!r}")
    if unknown := set(route.tools) - tools:
        raise SettingsError(f"{where}: unknown tools {sorted(unknown)}; known: {sorted(tools)}")
    for rule in route.match:
        try:
            re.compile(rule)
        except re.error as error:
            raise SettingsError(f"{where}: match rule {rule!r}: {error}") from error
