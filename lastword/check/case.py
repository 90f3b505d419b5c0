"""What a case is, the list of all cases, and the two ways in which one does not pass.

Owns the registry. A case is a function of a `Bench`; it returns where the rule holds, raises `Failed` where it does not, and
`NotTried` where this server, as it was started, gives no occasion to tell. Invariant: ids are unique and stable.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Flag, StrEnum, auto
from typing import TYPE_CHECKING

from msgspec import Struct

from lastword.errors import LastwordError

if TYPE_CHECKING:
    from lastword.check.bench import Bench


class Level(StrEnum):
    """How binding a rule is, in the words of RFC 2119."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


class Need(Flag):
    """What a case needs besides a client."""

    NOTHING = 0
    PROVIDER = auto()  # the server calls our fake provider
    TELEMETRY = auto()  # the server sends OTLP to our sink
    PROCESS = auto()  # we start and stop the server


GROUPS = {
    "W": "Wire",
    "G": "Grammar",
    "P": "Provider faults",
    "R": "Resume",
    "C": "Cancel",
    "F": "Flow",
    "L": "Lifecycle",
    "V": "Versions and telemetry",
}
"""The groups of cases, by the letter of their ids, in the order in which they run."""


class Failed(LastwordError):
    """The server breaks the rule. `evidence` is what it sent, as far as that shows it."""

    def __init__(self, message: str, evidence: bytes = b"") -> None:
        super().__init__(message)
        self.message = message
        self.evidence = evidence


class NotTried(LastwordError):
    """The rule could not be tried here; the message says what would be needed."""


class Case(Struct, frozen=True, kw_only=True):
    """One rule of the contract and how it is tried. `limit_s` bounds the time that it may take, in seconds."""

    id: str
    title: str
    rule: str
    why: str
    level: Level
    needs: Need
    limit_s: float
    run: Callable[[Bench], None]

    @property
    def number(self) -> int:
        """The case's number; numbers run through all groups."""
        return int(self.id[1:])

    @property
    def group(self) -> str:
        """The name of the case's group."""
        return GROUPS[self.id[0]]


_CASES: dict[str, Case] = {}


def case(
    ident: str,
    title: str,
    *,
    rule: str,
    why: str,
    level: Level = Level.MUST,
    needs: Need = Need.PROVIDER,
    limit_s: float = 60.0,
) -> Callable[[Callable[[Bench], None]], Callable[[Bench], None]]:
    """Registers a function as the case of this id."""

    def register(run: Callable[[Bench], None]) -> Callable[[Bench], None]:
        if ident in _CASES or ident[0] not in GROUPS:
            raise AssertionError(f"case id {ident!r} is taken or has no group")
        _CASES[ident] = Case(id=ident, title=title, rule=rule, why=why, level=level, needs=needs, limit_s=limit_s, run=run)
        return run

    return register


def all_cases() -> list[Case]:
    """Every case, in the order of their numbers."""
    from lastword.check import cases  # the modules of cases register themselves, and import this one

    cases.load()
    return sorted(_CASES.values(), key=lambda known: known.number)


def select(only: list[str], level: Level) -> list[Case]:
    """The cases of these ids or groups (all, where there is none), as binding as `level` or more.

    Raises:
        ValueError: a word names no case and no group.
    """
    known = all_cases()
    order = list(Level)
    wanted: set[str] = set()
    for word in only:
        named = [one.id for one in known if word.upper() in {one.id, one.id[0], str(one.number), one.group.upper()}]
        if not named:
            raise ValueError(f"no case and no group is called {word!r}; `--list` shows them")
        wanted.update(named)
    return [one for one in known if (not wanted or one.id in wanted) and order.index(one.level) <= order.index(level)]
