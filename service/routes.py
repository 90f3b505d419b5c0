"""Routes: what a turn may do and cost, read from one TOML file and checked at start.

A route is chosen by the caller's wish, else by the first rule that matches the message. Pure once loaded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from lastword.errors import SettingsError

DEFAULT_FILE = Path(__file__).parent / "routes.toml"

Positive = Annotated[int, Meta(gt=0)]


class Retrieval(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What evidence a route fetches before the model is asked."""

    top_k: Annotated[int, Meta(ge=1, le=20, description="Passages to fetch.")] = 5
    data_source: Annotated[str, Meta(description="The name of the source on spans.")] = "knowledge"


class Route(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One route. Times in milliseconds."""

    name: Annotated[str, Meta(pattern="^[a-z][a-z0-9_-]{0,63}$", description="Lower-case letters, digits, `_` and `-`.")]
    tiers: Annotated[
        tuple[str, ...], Meta(min_length=1, description="Tiers to try, in order: the later ones are the cheaper ones.")
    ]
    match: Annotated[
        tuple[str, ...],
        Meta(description="Regular expressions, without regard to case; the route is taken where one is found in the message."),
    ] = ()
    tools: Annotated[tuple[str, ...], Meta(description="Tools that the model may use.")] = ()
    retrieval: Annotated[
        Retrieval | None, Meta(description="Evidence to fetch first, such as `{ top_k = 5 }`; without it, none is.")
    ] = None
    fallback: Annotated[
        Annotated[str, Meta(min_length=1)] | None,
        Meta(description="The safe answer where no tier answered; without it the turn ends in an error."),
    ] = None
    system: Annotated[str, Meta(description="The system prompt.")] = ""
    deadline_ms: Annotated[
        Positive, Meta(description="What a turn may take in all; a request may ask for less with `deadlineMs`.")
    ] = 60_000
    first_token_timeout_ms: Annotated[
        Positive, Meta(description="What an attempt may take until its first visible text, its thinking included.")
    ] = 15_000
    stall_timeout_ms: Annotated[
        Positive,
        Meta(
            description="Silence between two pieces of content behind the first text: text, thinking or the input of a tool. Pings are none."
        ),
    ] = 10_000
    attempts_per_tier: Annotated[int, Meta(ge=1, le=10, description="Attempts on one tier, the first included.")] = 2
    backoff_base_ms: Annotated[
        Positive, Meta(description="The wait before the second attempt, before jitter; it doubles with each.")
    ] = 250
    backoff_cap_ms: Annotated[
        Positive, Meta(description="The longest wait; a provider's `retry-after` counts only within the deadline.")
    ] = 4_000
    max_model_calls: Annotated[int, Meta(ge=1, le=32, description="Calls of the model in one attempt, with tools between.")] = 6
    max_tool_calls: Annotated[int, Meta(ge=0, le=64, description="Calls of tools in one turn.")] = 8
    max_pauses: Annotated[int, Meta(ge=0, le=16, description="Times that the model may pause (`pause_turn`) and go on.")] = 3
    max_output_tokens: Annotated[Positive, Meta(description="Tokens that one call of the model may write.")] = 1024
    max_sources: Annotated[int, Meta(ge=1, le=50, description="Sources that the terminal record tells.")] = 5


class _File(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The file's outline. Routes are read one by one, so that a mistake in one does not hide those in the others."""

    tiers: dict[str, dict[str, str]]
    routes: Annotated[tuple[dict[str, object], ...], Meta(min_length=1)]


class RouteTable:
    """All routes, with the models of the provider that is switched on."""

    def __init__(self, routes: Iterable[Route], models: dict[str, str]) -> None:
        self._routes = {route.name: route for route in routes}
        self._rules = [
            (re.compile("|".join(route.match), re.IGNORECASE), route) for route in self._routes.values() if route.match
        ]
        self._models = models

    @property
    def all(self) -> tuple[Route, ...]:
        """All routes, in order."""
        return tuple(self._routes.values())

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

    def rule_for(self, route: Route, message: str) -> str | None:
        """The first of the route's rules that matches the message."""
        return next((rule for rule in route.match if re.search(rule, message, re.IGNORECASE)), None)

    def model(self, tier: str) -> str:
        """The model of a tier."""
        return self._models[tier]


def load_routes(path: Path, provider: str, known_tools: Iterable[str]) -> RouteTable:
    """Reads and checks the routes file.

    Raises:
        SettingsError: the file cannot be read, or says something that cannot work. The message tells everything that is wrong, a
            line each, with its place; of the keys of one route that have a wrong name or value, the first.
    """
    try:
        file = msgspec.toml.decode(path.read_bytes(), type=_File)
    except OSError as error:
        raise SettingsError(f"routes file {path}: {error.strerror}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SettingsError(f"routes file {path}: {error}") from error
    models = {tier: by_provider[provider] for tier, by_provider in file.tiers.items() if provider in by_provider}
    tools = set(known_tools)
    problems: list[str] = []
    routes: list[Route] = []
    for number, raw in enumerate(file.routes, start=1):
        where = f"route {number} ({raw.get('name', 'without a name')})"
        try:
            route = msgspec.convert(raw, Route)
        except msgspec.ValidationError as error:
            problems.append(f"{where}: {error}")
            continue
        problems += [f"{where}: {problem}" for problem in _problems(route, provider, models, tools)]
        routes.append(route)
    problems += [f"route {name!r} stands there twice" for name in _repeated(str(raw.get("name")) for raw in file.routes)]
    if file.routes[-1].get("match"):
        problems.append("the last route takes what no rule matched, so it has no `match`")
    if problems:
        raise SettingsError("\n".join(f"routes file {path}: {problem}" for problem in problems))
    return RouteTable(routes, models)


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]


def _problems(route: Route, provider: str, models: dict[str, str], tools: set[str]) -> Iterator[str]:
    """What cannot work in a route whose keys are all of the right type."""
    for tier in route.tiers:
        if tier not in models:
            yield f"tier {tier!r} names no model for provider {provider!r}"
    if unknown := set(route.tools) - tools:
        yield f"unknown tools {sorted(unknown)}; known: {sorted(tools)}"
    for kind, names in (("tier", route.tiers), ("tool", route.tools)):
        yield from (f"{kind} {name!r} stands there twice" for name in _repeated(names))
    for rule in route.match:
        try:
            re.compile(rule)
        except re.error as error:
            yield f"match rule {rule!r}: {error}"
    yield from _contradictions(route)


def _contradictions(route: Route) -> Iterator[str]:
    """Numbers that are sound alone and not together."""
    for name in ("first_token_timeout_ms", "stall_timeout_ms"):
        if (value := getattr(route, name)) > route.deadline_ms:
            yield f"{name} = {value} is beyond deadline_ms = {route.deadline_ms}, so it can never fire"
    if route.backoff_base_ms > route.backoff_cap_ms:
        yield f"backoff_base_ms = {route.backoff_base_ms} is beyond backoff_cap_ms = {route.backoff_cap_ms}"
