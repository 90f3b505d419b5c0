"""The named queries: one `.sql` file each, its parameters bound by the engine and never written into the text.

Owns the files beside it. A file's first comment says what a row is; `$name` is a parameter. A query of the same name under `rolled/` gives the same rows from rollups, for
windows of whole steps of five minutes: `chosen` says which of them is asked.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import cache
from importlib import resources
from typing import NamedTuple

from lastword import explain

RANKED = ("partial_marked", "stage_marked")
"""Queries that are never run alone: they say which turns are explained, and are run inside of the ranking that alerts use too."""

STEP_MS = 300_000
"""How long the steps of the rollups are."""
_TIMES = ("before", "start", "end", "since")
_FROM = ("before", "start", "box_start", "since")
_SLACK = timedelta(hours=1)
"""So much earlier than its turn a span may have begun, and later than its end."""

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
def ranking(name: str, limit: int) -> str:
    """The query that ranks what is different about the turns that a query of RANKED marks."""
    return explain.ranking(load(name), limit, weight="n")


def chosen(name: str, values: Mapping[str, object]) -> str:
    """The query that answers fastest: the one over rollups where there is one and the values name whole steps, else the one over turns."""
    return f"rolled/{name}" if name in _rolled() and _whole_steps(values) else name


class Reach(NamedTuple):
    """The times that a query looks at, as ISO 8601: when turns ended, when spans began. None is no bound."""

    since: str | None = None
    until: str | None = None


EVER = Reach()


def reach(values: Mapping[str, object]) -> Reach:
    """The times that a query with these parameters looks at. Its text says so too: this only keeps the collector from opening files of other times."""
    of_turn = "ended_at" in values
    first, last = (("started_at", "ended_at"), ("ended_at",)) if of_turn else (_FROM, ("end",))
    begun, over = ([datetime.fromisoformat(str(values[key])) for key in keys if values.get(key)] for keys in (first, last))
    return Reach((min(begun) - _SLACK).isoformat() if begun else None, (max(over) + _SLACK).isoformat() if over else None)


def _whole_steps(values: Mapping[str, object]) -> bool:
    times = [datetime.fromisoformat(str(values[key])) for key in _TIMES if values.get(key) is not None]
    width = values.get("bucket_ms")
    return (width is None or int(str(width)) % STEP_MS == 0) and all(
        round(at.timestamp() * 1000) % STEP_MS == 0 for at in times
    )


@cache
def _rolled() -> frozenset[str]:
    files = (entry.name for entry in resources.files(__name__).joinpath("rolled").iterdir())
    return frozenset(name.removesuffix(".sql") for name in files if name.endswith(".sql"))


@cache
def parameters(name: str) -> frozenset[str]:
    """The names of a query's parameters."""
    return frozenset(_PARAMETER.findall(_COMMENT.sub("", load(name))))


def names() -> tuple[str, ...]:
    """All queries, sorted."""
    files = (entry.name for entry in resources.files(__name__).iterdir())
    return tuple(sorted(name.removesuffix(".sql") for name in files if name.endswith(".sql")))


@cache
def examples() -> dict[str, str]:
    """Questions to begin with and their queries, in their order."""
    files = sorted(resources.files(__name__).joinpath("examples").iterdir(), key=lambda entry: entry.name)
    texts = [entry.read_text(encoding="utf-8").strip() for entry in files if entry.name.endswith(".sql")]
    return {body.partition("\n")[0].removeprefix("-- "): body.partition("\n")[2] for body in texts}


def for_reading(name: str, values: Mapping[str, str | int]) -> str:
    """The query with its parameters spelled out, for a person to copy into an editor. It is shown, never executed from here."""

    def literal(match: re.Match[str]) -> str:
        value = values[match[1]]
        return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"

    return _PARAMETER.sub(literal, load(name)).strip()
