"""What a span says in whatever convention: the columns of its row that the table of aliases fills. Pure.

Knows the table, and neither protobuf nor the store. A value that cannot be what its name says is passed over, never an error: the next name may be better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from collector.receive.aliases import (
    ALIASES,
    CHAT,
    OPERATIONS,
    OWN_OPERATIONS,
    PENDING_NAME,
    PENDING_VALUE,
    TOOL,
    Alias,
    Read,
)

MAX_TEXT_CHARS = 512
_MAX_COUNT = 2**53
_MAX_MS = 365 * 24 * 3600 * 1000

_Ranked = tuple[int, Alias]


def _index(*, events: bool) -> dict[str, tuple[_Ranked, ...]]:
    found: dict[str, tuple[_Ranked, ...]] = {}
    for rank, alias in enumerate(ALIASES):
        if alias.event is events:
            found[alias.name] = (*found.get(alias.name, ()), (rank, alias))
    return found


_ATTRIBUTES, _EVENTS = _index(events=False), _index(events=True)
MEANT = frozenset({*_ATTRIBUTES, PENDING_NAME})
"""Names of attributes that `meaning` reads."""
COLUMNS = tuple(dict.fromkeys(alias.column for alias in ALIASES))


def meaning(attributes: Mapping[str, Any], events: Sequence[Mapping[str, Any]], start_ns: int) -> dict[str, Any]:
    """The columns that attributes and events fill, and whether the span is pending. Columns without a value are left out."""
    if not events and MEANT.isdisjoint(attributes):
        return {}  # most spans are stages, and say nothing of a model
    best: dict[str, tuple[int, Any]] = {}
    for name in _ATTRIBUTES.keys() & attributes.keys():
        for rank, alias in _ATTRIBUTES[name]:
            _offer(best, rank, alias.column, _read(alias, attributes[name], start_ns))
    for event in events:
        for rank, alias in _EVENTS.get(event["name"], ()):
            # The first of a kind is the first token: later ones do not replace it.
            _offer(best, rank, alias.column, _milliseconds((event["timeNs"] - start_ns) / 1e6))
    found = {column: value for column, (_, value) in best.items()}
    if "operation" not in found and "model" in found and ("input_tokens" in found or "output_tokens" in found):
        found["operation"] = CHAT  # older conventions have no word for it: a model with tokens was called
    if "tool_name" in found and found.get("operation") != TOOL:
        del found["tool_name"]  # OpenLLMetry names workflows, tasks and agents by the same attribute
    if attributes.get(PENDING_NAME) == PENDING_VALUE:
        found["pending"] = True
    return found


def _offer(best: dict[str, tuple[int, Any]], rank: int, column: str, value: Any) -> None:
    if value is not None and (column not in best or rank < best[column][0]):
        best[column] = (rank, value)


def _read(alias: Alias, value: Any, start_ns: int) -> Any:
    if alias.inside:
        value = _inside(value, alias.inside)
    return _READERS[alias.read](value, start_ns)


def _inside(value: Any, keys: tuple[str, ...]) -> Any:
    """The value under the first of the keys that a JSON object has."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.MsgspecError, RecursionError):
            return None
    if not isinstance(value, dict):
        return None
    return next((value[key] for key in keys if value.get(key) is not None), None)


def _text(value: Any, _: int = 0) -> str | None:
    return value[:MAX_TEXT_CHARS] if isinstance(value, str) and value.strip() else None


def _operation(value: Any, _: int = 0) -> str | None:
    word = value.strip().lower() if isinstance(value, str) else ""
    return word if word in OWN_OPERATIONS else OPERATIONS.get(word)


def _last(value: Any, _: int = 0) -> str | None:
    if isinstance(value, str) and value.startswith("["):  # a list as JSON text, where an SDK knows no lists
        try:
            value = msgspec.json.decode(value)
        except (msgspec.MsgspecError, RecursionError):
            return _text(value)
    return _text(value[-1] if isinstance(value, list) and value else value)


def _number(value: Any) -> float | None:
    """A finite number that is not negative."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if (
        isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf
    ):  # an integer may have more digits than a float can
        return None
    return value


def _count(value: Any, _: int = 0) -> int | None:
    number = _number(value)
    return int(number) if number is not None and number == int(number) and number <= _MAX_COUNT else None


def _milliseconds(value: Any, _: int = 0) -> int | None:
    number = _number(value)
    return round(number) if number is not None and number <= _MAX_MS else None


def _seconds(value: Any, _: int = 0) -> int | None:
    number = _number(value)
    return None if number is None else _milliseconds(number * 1000)


def _seconds_or_ms(value: Any, _: int = 0) -> int | None:
    return _milliseconds(value) if isinstance(value, int) else _seconds(value)


def _seconds_or_ns(value: Any, _: int = 0) -> int | None:
    return _milliseconds(value / 1e6) if isinstance(value, int) and not isinstance(value, bool) else _seconds(value)


def _moment(value: Any, start_ns: int) -> int | None:
    """Milliseconds from the start to a moment in ISO 8601, which Langfuse writes with quotation marks around it."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value.strip('"'))
    except ValueError:
        return None
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return _milliseconds((moment.timestamp() * 1e9 - start_ns) / 1e6)


_READERS: dict[Read, Callable[[Any, int], Any]] = {
    Read.TEXT: _text,
    Read.COUNT: _count,
    Read.OPERATION: _operation,
    Read.LAST: _last,
    Read.SECONDS: _seconds,
    Read.MILLISECONDS: _milliseconds,
    Read.SECONDS_OR_MS: _seconds_or_ms,
    Read.SECONDS_OR_NS: _seconds_or_ns,
    Read.MOMENT: _moment,
}
