"""Keys and usage as a person reads them, and as JSON. Owns the layout; knows no database and no secret."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from rich.table import Table

from service.access.callers import static_caller
from service.access.grants import ANONYMOUS
from service.access.keys import StoredKey
from service.access.usage import DayUsage


def as_json(value: object) -> str:
    """Indented JSON with times in ISO form."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def key_fields(key: StoredKey, now: datetime) -> dict[str, Any]:
    """A key as JSON shows it."""
    return {
        "prefix": key.prefix,
        "name": key.name,
        "state": key.state(now),
        "scopes": sorted(key.scopes),
        "turnsPerMinute": key.limits.turns_per_minute,
        "tokensPerDay": key.limits.tokens_per_day,
        "createdAt": key.created_at,
        "expiresAt": key.expires_at,
        "revokedAt": key.revoked_at,
        "lastUsedAt": key.last_used_at,
    }


def key_table(keys: list[StoredKey], now: datetime) -> Table:
    """Keys as a table."""
    table = _table("key", "name", "state", "scopes", "turns/min", "tokens/day", "created", "expires", "last used")
    for key in keys:
        limits = key.limits
        numbers = [_number(limits.turns_per_minute), _number(limits.tokens_per_day)]
        times = [_minute(key.created_at), _minute(key.expires_at), _minute(key.last_used_at)]
        table.add_row(key.prefix, _plain(key.name), key.state(now), " ".join(sorted(key.scopes)), *numbers, *times)
    return table


def usage_fields(row: DayUsage, keys: list[StoredKey], static: tuple[str, ...]) -> dict[str, Any]:
    """A day of a key as JSON shows it."""
    prefix, name = _who(row.caller, keys, static)
    counts = {"turns": row.turns, "inputTokens": row.input_tokens, "outputTokens": row.output_tokens}
    return {"day": row.day, "key": prefix, "name": name, **counts}


def usage_table(rows: list[DayUsage], keys: list[StoredKey], static: tuple[str, ...]) -> Table:
    """Usage as a table."""
    table = _table("day", "key", "name", "turns", "input tokens", "output tokens")
    for row in rows:
        prefix, name = _who(row.caller, keys, static)
        counts = (_number(row.turns), _number(row.input_tokens), _number(row.output_tokens))
        table.add_row(str(row.day), prefix, _plain(name), *counts)
    return table


def _who(caller: str, keys: list[StoredKey], static: tuple[str, ...]) -> tuple[str, str]:
    """How to call a caller: by the key's prefix and name, or by its place in the settings, never by a secret."""
    if caller == ANONYMOUS:
        return "-", "without a key"
    for key in keys:
        if key.caller == caller:
            return key.prefix, key.name
    for number, secret in enumerate(static, start=1):
        if static_caller(secret) == caller:
            return caller[:12], f"static key {number}"
    return caller[:12], "static key of before"


def _table(*heads: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        right = head in {"turns/min", "tokens/day", "turns", "input tokens", "output tokens"}
        table.add_column(head, justify="right" if right else "left", no_wrap=head in {"key", "day"})
    return table


def _plain(text: str) -> str:
    return text.replace("[", "\\[")  # a name is no markup


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _minute(time: datetime | None) -> str:
    return "-" if time is None else f"{time:%Y-%m-%d %H:%M}"
