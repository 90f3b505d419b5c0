"""Faults on purpose, for demonstrations and tests: which turn gets which, and when.

Owns the names, the rates and the dice. Knows nothing of how a fault is made: the extractive provider and the tool registry ask. A
turn's fault is drawn once, from a seeded generator in the order of the turns, so that a run can be repeated.
"""

from __future__ import annotations

import random
import threading
from collections import OrderedDict
from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from lastword.errors import SettingsError
from lastword.events import ToolOutcome
from service.tools.registry import ToolContext

REQUEST_KEY = "fault"
"""The key of a request's `metadata` that asks for a fault."""
_REMEMBERED = 10_000


class FaultName(StrEnum):
    """What can go wrong on purpose."""

    OVERLOADED_BEFORE_TEXT = "overloaded_before_text"
    ERROR_BEFORE_TEXT = "error_before_text"
    STALL_BEFORE_TEXT = "stall_before_text"
    SLOW_FIRST_TOKEN = "slow_first_token"
    CUT_AFTER_TEXT = "cut_after_text"
    STALL = "stall"
    TRUNCATED = "truncated"
    REFUSAL = "refusal"
    EMPTY_TOOL_RESULT = "empty_tool_result"
    TOOL_TIMEOUT = "tool_timeout"


_TOOL_OUTCOMES = {FaultName.EMPTY_TOOL_RESULT: ToolOutcome.EMPTY, FaultName.TOOL_TIMEOUT: ToolOutcome.TIMEOUT}
_ONCE = frozenset({FaultName.OVERLOADED_BEFORE_TEXT, FaultName.ERROR_BEFORE_TEXT, FaultName.STALL_BEFORE_TEXT})
"""Faults that by default strike the first try only, so that the retry succeeds."""


class Fault(Struct, frozen=True):
    """One fault of one turn; it strikes the first `tries` tries, or all of them where that is None."""

    name: FaultName
    tries: int | None = None

    def strikes(self, attempt: int) -> bool:
        """Whether this try (1 for the first) is hit."""
        return self.tries is None or attempt <= self.tries


def parse_fault(text: str) -> Fault:
    """A fault from `name`, `name:always` or `name:N`, where N counts the tries that it strikes.

    Raises:
        SettingsError: there is no such fault.
    """
    word, _, extent = text.partition(":")
    try:
        name = FaultName(word.strip())
    except ValueError:
        raise SettingsError(f"unknown fault {word!r}; known: {', '.join(FaultName)}") from None
    if extent == "":
        return Fault(name, 1 if name in _ONCE else None)
    if extent == "always":
        return Fault(name, None)
    if extent.isascii() and extent.isdigit() and 1 <= int(extent) <= 99:
        return Fault(name, int(extent))
    raise SettingsError(f"fault {text!r}: behind the colon stands `always` or the number of tries that it strikes")


def fault_asked_for(metadata: Mapping[str, str]) -> Fault | None:
    """The fault that a request's metadata names, if it names one. Pure."""
    wish = metadata.get(REQUEST_KEY)
    if not wish:
        return None
    try:
        return parse_fault(wish)
    except SettingsError:
        return None  # a caller's metadata is free text: what is no fault is no fault


def fault_for_tool(metadata: Mapping[str, str], draw: Fault | None) -> ToolOutcome | None:
    """The outcome that is forced on a turn's tools: by what its request asks for, else by what was drawn for it. Pure."""
    fault = fault_asked_for(metadata) or draw
    return _TOOL_OUTCOMES.get(fault.name) if fault else None


class FaultPlan:
    """Decides which turn gets which fault. Thread-safe."""

    def __init__(self, rates: Mapping[Fault, float], *, seed: int = 1, by_request: bool = True) -> None:
        self._rates = dict(rates)
        self._by_request = by_request
        self._rng = random.Random(seed)
        self._lock = threading.Lock()
        self._drawn: OrderedDict[str, Fault | None] = OrderedDict()

    def fault_for(self, turn_id: str, metadata: Mapping[str, str]) -> Fault | None:
        """The fault of a turn: the one that its request asks for, else the one that was drawn for it."""
        asked = fault_asked_for(metadata) if self._by_request else None
        return asked or self._drawn_for(turn_id)

    def _drawn_for(self, turn_id: str) -> Fault | None:
        if not self._rates:
            return None
        with self._lock:
            if turn_id not in self._drawn:
                self._drawn[turn_id] = self._draw()
                while len(self._drawn) > _REMEMBERED:
                    self._drawn.popitem(last=False)
            return self._drawn[turn_id]

    def _draw(self) -> Fault | None:
        dice = self._rng.random()
        for fault, rate in self._rates.items():
            if dice < rate:
                return fault
            dice -= rate
        return None

    def before_tool(self, _name: str, context: ToolContext) -> ToolOutcome | None:
        """The registry's hook: the outcome that a turn's fault forces on its tools."""
        # Not drawn where it was asked for: a wish must not move the dice of the turns behind it.
        draw = self.fault_for(context.turn_id, context.metadata)
        return fault_for_tool(context.metadata if self._by_request else {}, draw)


def parse_faults(text: str, *, seed: int = 1, by_request: bool = True) -> FaultPlan:
    """A plan from `name=rate,name:always=rate`; rates are shares of turns.

    Raises:
        SettingsError: a name or a rate is wrong, or the rates sum to more than 1.
    """
    rates: dict[Fault, float] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, rate_text = item.partition("=")
        try:
            rate = float(rate_text)
        except ValueError:
            rate = -1.0
        if not 0 <= rate <= 1:
            raise SettingsError(f"faults: {item!r}: behind = stands a share between 0 and 1")
        fault = parse_fault(name)
        if fault in rates:
            raise SettingsError(f"faults: {name.strip()} has two shares")
        rates[fault] = rate
    if sum(rates.values()) > 1 + 1e-9:
        raise SettingsError(f"faults: the shares sum to {sum(rates.values()):g}, which is more than 1")
    return FaultPlan(rates, seed=seed, by_request=by_request)
