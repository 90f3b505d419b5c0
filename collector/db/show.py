"""How `lastword db` says amounts. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from rich.table import Table

from collector.db.info import Holding
from collector.store.retention import Keep, days_of

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def amount(size: float) -> str:
    """Bytes, in the unit in which they are easiest to read."""
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            return f"{size:,.0f} {unit}" if unit == _UNITS[0] else f"{size:,.1f} {unit}"
        size /= 1024
    raise AssertionError


def holdings_table(holdings: Iterable[Holding], keep: Keep) -> Table:
    """Tables with their rows, times and bytes."""
    table = Table()
    for name in ("table", "rows", "oldest", "newest", "segments", "on disk", "a row", "kept for"):
        table.add_column(name, justify="left" if name in {"table", "oldest", "newest"} else "right")
    for one in holdings:
        days = days_of(one.table, keep)
        kept = "" if days is None else f"{days} days" if days else "ever"
        each = f"{one.bytes / one.rows:,.0f} bytes" if one.rows else ""
        table.add_row(
            one.table, f"{one.rows:,}", _at(one.oldest), _at(one.newest), str(one.segments), amount(one.bytes), each, kept
        )
    return table


def _at(time: datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M}"
