"""The named queries: one `.sql` file each, its parameters bound by the engine and never written into the text.

Owns the files beside it. A file's first comment says what a row is; `$name` is a parameter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

_PARAMETER = re.compile(r"\$([a-z_]+)")
_COMMENT = re.compile(r"--[^\n]*")


@cache
def load(name: str) -> str:
    """The text of a query.

    Raises:
        FileNotFoundError: there is no query of this name.
    """
    return resources.files(__name__).joinpath(f"{name}.sql").read_text(encoding="utf-8")


@cache
def parameters(name: str) -> frozenset[str]:
    """The names of a query's parameters."""
    return frozenset(_PARAMETER.findall(_COMMENT.sub("", load(name))))


def names() -> tuple[str, ...]:
    """All queries, sorted."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".sql") for name in files if name.endswith(".sql")))


def for_reading(name: str, values: Mapping[str, str | int]) -> str:
    """The query with its parameters spelled out, for a person to copy into an editor. It is shown, never executed from here."""

    def literal(match: re.Match[str]) -> str:
        value = values[match[1]]
        return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"

    return _PARAMETER.sub(literal, load(name)).strip()
