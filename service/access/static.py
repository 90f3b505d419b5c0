"""Keys that stand in the settings: `LASTWORD_SERVICE_API_KEYS=first,second;rate=3;tokens=50000`.

Owns the syntax. A static key has every scope; it can be limited, and is revoked by a restart without it.
"""

from __future__ import annotations

from msgspec import Struct

from lastword.errors import SettingsError
from service.access.grants import MAX_TOKENS_PER_DAY, MAX_TURNS_PER_MINUTE, Limits

_OPTIONS = {"rate": ("turns_per_minute", MAX_TURNS_PER_MINUTE), "tokens": ("tokens_per_day", MAX_TOKENS_PER_DAY)}


class StaticKey(Struct, frozen=True, kw_only=True):
    """A key of the settings."""

    secret: str
    limits: Limits


def parse_static_keys(text: str) -> tuple[StaticKey, ...]:
    """The keys of a setting, separated by commas, each with options behind semicolons.

    Raises:
        SettingsError: an option is unknown or out of its range. The message shows no key.
    """
    keys = []
    for number, part in enumerate((part.strip() for part in text.split(",")), start=1):
        secret, *options = (piece.strip() for piece in part.split(";"))
        if secret:
            keys.append(StaticKey(secret=secret, limits=_limits(options, number)))
        elif options:
            raise SettingsError(f"LASTWORD_SERVICE_API_KEYS: entry {number} has options and no key")
    return tuple(keys)


def _limits(options: list[str], number: int) -> Limits:
    found: dict[str, int] = {}
    for option in options:
        name, _, value = (piece.strip() for piece in option.partition("="))
        if name not in _OPTIONS:
            raise SettingsError(
                f"LASTWORD_SERVICE_API_KEYS: entry {number} has an unknown option; known: "
                "rate=TURNS_PER_MINUTE, tokens=TOKENS_PER_DAY"
            )
        field, most = _OPTIONS[name]
        if not (value.isascii() and value.isdigit() and len(value) <= 16 and 1 <= int(value) <= most):
            raise SettingsError(f"LASTWORD_SERVICE_API_KEYS: entry {number}: {name} is a whole number from 1 to {most}")
        found[field] = int(value)
    return Limits(**found)
