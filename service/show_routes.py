"""`python -m service.show_routes`: checks a routes file, shows it, and says which route a message takes. Starts nothing.

Exit codes: 0 done, 2 the file, a setting or a tool cannot be used.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lastword.errors import SettingsError
from service.routes import DEFAULT_FILE, Route, RouteTable, load_routes
from service.settings import load_settings
from service.tools.builtins import default_registry
from service.tools.own import load_tools

_PROVIDERS = ("extractive", "anthropic")
_FILE = click.option(
    "--file",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The routes file; by default the service's own: LASTWORD_SERVICE_ROUTES_FILE, or the one that comes with it.",
)
_PROVIDER = click.option(
    "--provider", type=click.Choice(_PROVIDERS), help="Whose models; by default those of LASTWORD_SERVICE_PROVIDER."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _table(path: Path | None, provider: str | None) -> tuple[Path, RouteTable]:
    """The file and its routes, with the tools that the service would have."""
    settings = load_settings()
    path = path or (Path(settings.routes_file) if settings.routes_file else DEFAULT_FILE)
    try:
        tools = default_registry(time.monotonic_ns, more=load_tools(settings.tool_modules)).names
    except ValueError as error:
        raise SettingsError(f"LASTWORD_SERVICE_TOOLS: {error}") from error
    return path, load_routes(path, provider or settings.provider, tools)


@contextmanager
def _told() -> Iterator[None]:
    """What is wrong goes to standard error, a line each, and the status is 2."""
    try:
        yield
    except SettingsError as error:
        Console(stderr=True).print(str(error), style="red", highlight=False, soft_wrap=True, markup=False)
        sys.exit(2)


@click.group(name="routes", context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Routes of the turn service: what a turn may do, and what it may cost.

    They stand in one TOML file (see docs/routes.md) and are read when the service starts.
    """


@main.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), required=False)
@_PROVIDER
@_told()
def check(path: Path | None, provider: str | None) -> None:
    """Check a routes file, for every provider.

    PATH is the file; by default the service's own is checked.
    """
    for one in [provider] if provider else _PROVIDERS:
        path, table = _table(path, one)
        click.echo(f"{path}: {len(table.names)} routes are valid for {one}: {', '.join(table.names)}")


@main.command(name="list")
@_FILE
@_PROVIDER
@_JSON
@_told()
def list_(path: Path | None, provider: str | None, *, as_json: bool) -> None:
    """List the routes in the order in which they are tried."""
    _, table = _table(path, provider)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode([_fields(route, table) for route in table.all])).decode())
    else:
        Console().print(_shown(table))


@main.command(name="try")
@click.argument("message")
@_FILE
@_PROVIDER
@_JSON
@_told()
def try_(message: str, path: Path | None, provider: str | None, *, as_json: bool) -> None:
    """Say which route a message takes.

    Tells the rule that matched MESSAGE, and the models that would answer.
    """
    _, table = _table(path, provider)
    route = table.choose(message, None)
    rule = table.rule_for(route, message)
    if as_json:
        click.echo(msgspec.json.encode({**_fields(route, table), "matchedBy": rule}).decode())
        return
    models = ", ".join(f"{tier} ({table.model(tier)})" for tier in route.tiers)
    why = f"matched by {rule}" if rule else "no rule matched, so the last route takes it"
    click.echo(f"{route.name}: {why}\ntiers: {models}\ntools: {', '.join(route.tools) or 'none'}")


def _fields(route: Route, table: RouteTable) -> dict[str, object]:
    return {**msgspec.to_builtins(route), "models": [table.model(tier) for tier in route.tiers]}


def _shown(table: RouteTable) -> Table:
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("route", "takes", "tiers (models)", "tools", "deadline", "safe answer"):
        shown.add_column(name, overflow="fold")
    for route in table.all:
        tiers = "\n".join(f"{tier} ({table.model(tier)})" for tier in route.tiers)
        rules = f"{len(route.match)} rule{'s' if len(route.match) > 1 else ''}" if route.match else "the rest"
        seconds = f"{route.deadline_ms / 1000:g} s"
        cells = (route.name, rules, tiers, "\n".join(route.tools) or "none", seconds, "yes" if route.fallback else "no")
        shown.add_row(*map(escape, cells))
    return shown


if __name__ == "__main__":
    main(prog_name="lastword routes")
