"""When a key ends, as a person writes it: `30d`, `12h`, `90m`, or a day. Owns the syntax; knows no clock."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

_SPAN = re.compile(r"([0-9]{1,6})([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
MAX_SPAN = timedelta(days=36_600)


def parse_expiry(text: str, now: datetime) -> datetime:
    """The moment that a text names, UTC; a day ends with its last second.

    Raises:
        ValueError: the text names no moment of the next hundred years. The message is for the person.
    """
    span = _SPAN.fullmatch(text.strip())
    if span is not None:
        length = timedelta(**{_UNITS[span[2]]: int(span[1])})
        if not timedelta() < length <= MAX_SPAN:
            raise ValueError("that is no time within the next hundred years.")
        return now + length
    try:
        day = date.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("write 30d, 12h, 90m, or a day such as 2027-01-31.") from None
    end = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
    if not now < end <= now + MAX_SPAN:
        raise ValueError("that day is over, or more than a hundred years away.")
    return end
