"""What a collector has to change in the lake, and which of its files the lake has let go. Pure.

Invariant of the plan: it is made from what counts in the store and from what the lake has, never from what was done before, so it is right after any crash.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

Files = dict[str, set[str]]
"""Table to paths."""


class Plan(Struct, frozen=True):
    """Files to register and files to take out, by table, in one transaction."""

    add: dict[str, list[str]]
    remove: dict[str, list[str]]

    def __bool__(self) -> bool:
        return bool(self.add or self.remove)


def plan(wanted: Files, registered: Files) -> Plan:
    """What makes the lake have the wanted files and no other ones of this collector."""
    return Plan(_without(wanted, registered), _without(registered, wanted))


def _without(files: Files, others: Files) -> dict[str, list[str]]:
    rest = {table: sorted(paths - others.get(table, set())) for table, paths in sorted(files.items())}
    return {table: paths for table, paths in rest.items() if paths}


class Released:
    """Files that count no more, with when the lake was seen to have let go of each. A file may be unlinked once that is `grace_s` ago.

    Knows only what this process saw: after a start every file waits for its whole grace again.
    """

    def __init__(self, grace_s: float) -> None:
        self._grace_s = grace_s
        self._since: dict[str, float] = {}

    def saw(self, superseded: Iterable[str], registered: Iterable[str], now_s: float) -> None:
        """Notes the state after a round that succeeded: files that count no more, and files that the lake has."""
        held = set(registered)
        self._since = {file: self._since.get(file, now_s) for file in superseded if file not in held}

    def among(self, files: Iterable[str], now_s: float) -> list[str]:
        """Those of these files that may be unlinked now."""
        return [file for file in files if (since := self._since.get(file)) is not None and now_s - since >= self._grace_s]


def overlap(one: Path, other: Path) -> bool:
    """Whether one of two folders lies in the other, or is it."""
    return one == other or one in other.parents or other in one.parents
