"""Rate limits and token quotas, enforced inside the transaction that claims a turn.

Owns the bucket of each limited caller. Exact across processes, because the bucket is a row of the database they share, moved by one
statement: a turn is taken exactly where the claim commits, and a claim that is rolled back (a replay, another failure) has taken nothing.

The bucket is kept as the time at which it will be full again (the generic cell rate algorithm): one integer, no rounding, no refilling job.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, case, select
from sqlalchemy.dialects import postgresql, sqlite

from service.access.grants import Grant
from service.access.usage import tokens_of_day
from service.store.models import CallerBucketRow

_NS_PER_MINUTE = 60_000_000_000
_NS_PER_S = 1_000_000_000


class OverLimit(Exception):
    """The caller has to wait. `retry_after_s` is at least 1; the message is safe to show."""

    def __init__(self, detail: str, retry_after_s: int) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after_s = retry_after_s


def take_turn(connection: Connection, grant: Grant, now_ns: int) -> None:
    """Takes one turn out of the caller's limits. `now_ns` counts from 1970, UTC.

    Raises:
        OverLimit: the quota of the day or the bucket is empty; roll the transaction back.
    """
    if (quota := grant.limits.tokens_per_day) is not None:
        _check_quota(connection, grant.caller, quota, now_ns)
    if (rate := grant.limits.turns_per_minute) is not None:
        _take_from_bucket(connection, grant.caller, rate, now_ns)


def _check_quota(connection: Connection, caller: str, quota: int, now_ns: int) -> None:
    now = datetime.fromtimestamp(now_ns / _NS_PER_S, UTC)
    if tokens_of_day(connection, caller, now.date()) < quota:
        return
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    wait_s = max(1, -(-(midnight - now) // timedelta(seconds=1)))
    raise OverLimit(f"The {quota} tokens of this day (UTC) are used up.", wait_s)


def _take_from_bucket(connection: Connection, caller: str, rate: int, now_ns: int) -> None:
    step = _NS_PER_MINUTE // rate
    room = rate * step  # a whole minute's turns may come at once; then one every `step`
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    begin = case((CallerBucketRow.full_at_ns > now_ns, CallerBucketRow.full_at_ns), else_=now_ns)
    taken = connection.scalar(
        insert(CallerBucketRow)
        .values(caller=caller, full_at_ns=now_ns + step)
        .on_conflict_do_update(
            index_elements=[CallerBucketRow.caller], set_={"full_at_ns": begin + step}, where=begin + step <= now_ns + room
        )
        .returning(CallerBucketRow.full_at_ns)
    )
    if taken is not None:
        return
    full_at_ns = connection.scalar(select(CallerBucketRow.full_at_ns).where(CallerBucketRow.caller == caller)) or now_ns
    wait_ns = max(full_at_ns, now_ns) + step - room - now_ns
    raise OverLimit(f"This key may begin {rate} turns a minute.", max(1, -(-wait_ns // _NS_PER_S)))
