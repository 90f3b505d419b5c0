"""What each caller has used: turns and tokens by day (UTC), counted in the transaction that ends a turn.

Each process counts in rows of its own (`shard`), and readers sum: so that processes which end turns of the same callers at the same time never wait for each
other's rows, and cannot deadlock on them. Invariant: what was committed with a terminal is counted once, whatever happens to the process.
"""

from __future__ import annotations

import secrets
from datetime import date, datetime

from msgspec import Struct
from sqlalchemy import Connection, Engine, func, select

from lastword.events import Usage
from service.store.engine import READ_ONLY
from service.store.models import CallerUsageRow
from service.store.statements import ADD_USAGE

_SHARD = secrets.token_hex(8)
MAX_USAGE_ROWS = 10_000


class DayUsage(Struct, frozen=True, kw_only=True):
    """What one caller used in one day. Input tokens hold those that a provider's cache read or wrote."""

    day: date
    caller: str
    turns: int
    input_tokens: int
    output_tokens: int


def add_usage(connection: Connection, caller: str, ended_at: datetime, usage: Usage, *, shard: str = _SHARD) -> None:
    """Counts one turn that was acknowledged and has ended, in the connection's transaction."""
    row = {
        "caller": caller,
        "day": ended_at.date(),
        "shard": shard,
        "turns": 1,
        "input_tokens": usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
    }
    connection.execute(ADD_USAGE[connection.dialect.name], row)


def tokens_of_day(connection: Connection, caller: str, day: date) -> int:
    """Tokens in and out of a caller's turns that ended on a day."""
    total = func.sum(CallerUsageRow.input_tokens + CallerUsageRow.output_tokens)
    return int(connection.scalar(select(total).where(CallerUsageRow.caller == caller, CallerUsageRow.day == day)) or 0)


def usage_by_day(engine: Engine, *, since: date, caller: str | None = None) -> list[DayUsage]:
    """Usage of every caller, or of one, from a day on: the newest day first."""
    wanted = [CallerUsageRow.day >= since] + ([CallerUsageRow.caller == caller] if caller is not None else [])
    query = (
        select(
            CallerUsageRow.day,
            CallerUsageRow.caller,
            func.sum(CallerUsageRow.turns),
            func.sum(CallerUsageRow.input_tokens),
            func.sum(CallerUsageRow.output_tokens),
        )
        .where(*wanted)
        .group_by(CallerUsageRow.day, CallerUsageRow.caller)
        .order_by(CallerUsageRow.day.desc(), CallerUsageRow.caller)
        .limit(MAX_USAGE_ROWS)
    )
    with engine.execution_options(**READ_ONLY).connect() as connection:
        return [
            DayUsage(day=day, caller=who, turns=int(turns), input_tokens=int(put_in), output_tokens=int(out))
            for day, who, turns, put_in, out in connection.execute(query)
        ]
