"""`python -m service.access`: API keys from the command line. It works on the service's database, while the service runs or before.

Exit codes: 0 done, 2 the arguments, a setting or the database cannot be used, or there is no such key.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial

import click
from rich.console import Console
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from lastword.errors import SettingsError
from service.access.duration import parse_expiry
from service.access.grants import MAX_TOKENS_PER_DAY, MAX_TURNS_PER_MINUTE, USUAL_SCOPES, Limits, Scope
from service.access.keys import MAX_NAME_CHARS, KeyBook, NewKey, prefix_of
from service.access.show import as_json, key_fields, key_table, usage_fields, usage_table
from service.access.usage import usage_by_day
from service.settings import ServiceSettings, load_settings
from service.store.engine import StoreError, migrate, open_engine

_JSON = click.option("--json", "as_json_", is_flag=True, help="Print JSON.")
_HELP = {"help_option_names": ["-h", "--help"]}


class _Unusable(Exception):
    """Nothing can be done; the message says why."""


@contextmanager
def _database() -> Iterator[tuple[Engine, ServiceSettings]]:
    """The service's database at its newest schema; failures become one line."""
    try:
        settings = load_settings()
        engine = open_engine(settings.sqlalchemy_url)
        try:
            migrate(engine)
            yield engine, settings
        finally:
            engine.dispose()
    except (_Unusable, SettingsError, StoreError) as error:
        _fail(str(error))
    except SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        _fail(f"the database cannot be used: {str(cause).splitlines()[0]}")


def _fail(message: str) -> None:
    Console(stderr=True).print(f"keys: {message}", style="red", highlight=False, soft_wrap=True, markup=False)
    sys.exit(2)


def _now() -> datetime:
    return datetime.now(UTC)


@click.group(name="keys", context_settings=_HELP)
def main() -> None:
    """API keys of the turn service: who may ask, what, and how much.

    The keys live in the service's database (LASTWORD_DATA_DIR, or LASTWORD_SERVICE_DATABASE_URL). Changes need no restart: a new key works at once, and
    a revoked one stops within LASTWORD_SERVICE_KEY_CACHE_S seconds (2 by default).
    """


def _expiry(_ctx: click.Context, _param: click.Parameter, text: str | None) -> datetime | None:
    try:
        return None if text is None else parse_expiry(text, _now())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _name(_ctx: click.Context, _param: click.Parameter, text: str) -> str:
    name = text.strip()
    if not name or not name.isprintable() or len(name) > MAX_NAME_CHARS:
        raise click.BadParameter(f"a name has 1 to {MAX_NAME_CHARS} printable characters.")
    return name


@main.command()
@click.option("--name", required=True, callback=_name, help="Whom or what the key is for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([scope.value for scope in Scope]),
    help="What the key may do; repeat for more. ask: begin and cancel turns; read: follow and look at own turns and "
    "conversations; route, tier: wish a route or a model tier.  [default: ask, read]",
)
@click.option(
    "--expires", "expires_at", callback=_expiry, help="When it ends: 30d, 12h, 90m, or a day such as 2027-01-31 (UTC)."
)
@click.option("--rate", type=click.IntRange(1, MAX_TURNS_PER_MINUTE), help="Most turns a minute.")
@click.option("--tokens-per-day", type=click.IntRange(1, MAX_TOKENS_PER_DAY), help="Tokens in and out, by day (UTC).")
@_JSON
def create(
    name: str,
    scopes: tuple[str, ...],
    expires_at: datetime | None,
    rate: int | None,
    tokens_per_day: int | None,
    *,
    as_json_: bool,
) -> None:
    """Make a key and print it, once: only a digest of it is kept.

    The key alone goes to standard output, so that `KEY=$(lastword keys create --name web)` does what it says.
    """
    new = NewKey(
        name=name,
        scopes=frozenset(map(Scope, scopes)) or USUAL_SCOPES,
        limits=Limits(turns_per_minute=rate, tokens_per_day=tokens_per_day),
        expires_at=expires_at,
    )
    with _database() as (engine, _):
        key, secret = KeyBook(engine).create(new, _now())
    if as_json_:
        click.echo(as_json({"key": secret, **key_fields(key, _now())}))
        return
    _print_table(partial(key_table, [key], _now()), stderr=True)
    click.echo("The key, which cannot be shown again:", err=True)
    click.echo(secret)


@main.command(name="list")
@_JSON
def list_(*, as_json_: bool) -> None:
    """List all keys, with what each may do and when it was used last (to the minute)."""
    with _database() as (engine, _):
        keys = KeyBook(engine).listed()
    if as_json_:
        click.echo(as_json([key_fields(key, _now()) for key in keys]))
    elif keys:
        _print_table(partial(key_table, keys, _now()))
    else:
        click.echo("There is no key. Make one with `lastword keys create --name NAME`.", err=True)


@main.command()
@click.argument("key")
@_JSON
def revoke(key: str, *, as_json_: bool) -> None:
    """End KEY for good: its prefix (lwk_ and 12 digits, see `list`), or the whole key."""
    prefix = prefix_of(key.strip())
    with _database() as (engine, settings):
        if prefix is None:
            raise _Unusable("a key is named by its prefix, lwk_ and 12 digits: see `lastword keys list`")
        found = KeyBook(engine).revoke(prefix, _now())
        if found is None:
            raise _Unusable(f"there is no key {prefix}")
    revoked, by_this_call = found
    if as_json_:
        click.echo(as_json(key_fields(revoked, _now())))
    elif by_this_call:
        click.echo(f"{prefix} ({revoked.name}) is revoked. Running services stop taking it within {settings.key_cache_s:g} s.")
    else:
        click.echo(f"{prefix} ({revoked.name}) was revoked before, at {revoked.revoked_at:%Y-%m-%d %H:%M} UTC.")


@main.command()
@click.option("--days", type=click.IntRange(1, 3660), default=7, show_default=True, help="How many days, today (UTC) included.")
@click.option("--key", help="Of one key: its prefix.")
@_JSON
def usage(days: int, key: str | None, *, as_json_: bool) -> None:
    """Show turns and tokens by key and day (UTC). Static keys and use without a key are told too."""
    since = (_now() - timedelta(days=days - 1)).date()
    with _database() as (engine, settings):
        keys = KeyBook(engine).listed()
        caller = None
        if key is not None:
            caller = next((known.caller for known in keys if known.prefix == prefix_of(key.strip())), None)
            if caller is None:
                raise _Unusable(f"there is no key {prefix_of(key.strip()) or 'of that prefix'}")
        rows = usage_by_day(engine, since=since, caller=caller)
    if as_json_:
        click.echo(as_json([usage_fields(row, keys, settings.keys) for row in rows]))
    elif rows:
        _print_table(partial(usage_table, rows, keys, settings.keys))
    else:
        click.echo(f"Nothing was used since {since}.", err=True)


def _print_table(table: Callable[[], object], *, stderr: bool = False) -> None:
    console = Console(stderr=stderr)
    if not console.is_terminal:
        console = Console(stderr=stderr, width=200)  # a pipe has no width of its own, and cut columns help nobody
    console.print(table())


if __name__ == "__main__":
    main(prog_name="lastword keys")
