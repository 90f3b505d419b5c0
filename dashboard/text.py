"""How values read: durations, shares, counts, times, ids. One place, so that every page says them alike.

Pure. A value that is not known reads as an en dash, never as 0.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

NONE = "–"
_SHORT_ID = 12
_MARKUP = re.compile(r"[\\`*_{}\[\]<>()#+\-.!|:$~]")


def duration(ms: float | None) -> str:
    """Milliseconds as people say them: 8 ms, 3.27 s, 41.2 s, 2 min 5 s."""
    if ms is None:
        return NONE
    if ms < 999.5:
        return f"{ms:.0f} ms"
    if ms < 9_995:
        return f"{ms / 1000:.2f} s"
    if ms < 59_950:
        return f"{ms / 1000:.1f} s"
    minutes, seconds = divmod(round(ms / 1000), 60)
    if minutes < 60:
        return f"{minutes} min {seconds} s" if seconds else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def share(value: float | None) -> str:
    """A share as a percentage, precise enough to tell small ones apart."""
    if value is None:
        return NONE
    percent = value * 100
    if percent == 0 or percent >= 9.95:
        return f"{percent:.0f}%"
    return f"{percent:.1f}%" if percent >= 0.1 else "<0.1%"


def count(value: int | None) -> str:
    """A count with thousands separated."""
    return NONE if value is None else f"{value:,}"


def plural(value: int, one: str, many: str | None = None) -> str:
    """A count with its noun."""
    return f"{value:,} {one if value == 1 else many or one + 's'}"


def change_of(now: float | None, before: float | None) -> str | None:
    """The relative change, signed; none where there is nothing to compare with."""
    if now is None or not before:
        return None
    percent = (now / before - 1) * 100
    return "±0%" if abs(percent) < 0.5 else f"{percent:+.0f}%"


def change_in_points(now: float | None, before: float | None) -> str | None:
    """The change between two shares in percentage points, signed."""
    if now is None or before is None:
        return None
    points = (now - before) * 100
    return "±0 pt" if abs(points) < 0.05 else f"{points:+.1f} pt"


def ago(then: datetime, now: datetime) -> str:
    """How long ago, in one unit."""
    seconds = max(0.0, (now - then).total_seconds())
    for limit, divisor, unit in ((90, 1, "s"), (5_400, 60, "min"), (129_600, 3_600, "h")):
        if seconds < limit:
            return f"{seconds / divisor:.0f} {unit} ago"
    return f"{seconds / 86_400:.0f} days ago"


def span(length: timedelta) -> str:
    """The length of a window or of a step: 45 s, 15 min, 6 h, 7 d."""
    seconds = round(length.total_seconds())
    for divisor, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= divisor and seconds % divisor == 0:
            return "24 h" if seconds == 86_400 else f"{seconds // divisor} {unit}"
    return f"{seconds} s" if seconds < 60 else duration(seconds * 1000)


def zone(name: str | None) -> tzinfo:
    """The reader's time zone; UTC where the browser does not say or says something unknown."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def clock(at: datetime, tz: tzinfo, now: datetime | None = None) -> str:
    """A time of day; with its date where that is not today."""
    local = at.astimezone(tz)
    today = (now or datetime.now(UTC)).astimezone(tz).date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%d %b %H:%M:%S}"


def moment(at: datetime, tz: tzinfo) -> str:
    """A whole point in time, with its zone."""
    local = at.astimezone(tz)
    return f"{local:%d %b %Y, %H:%M:%S} {local.tzname() or ''}".rstrip()


def short_id(text: str) -> str:
    """The beginning of an id: enough to recognise it."""
    return text if len(text) <= _SHORT_ID + 4 else f"{text[:_SHORT_ID]}…"


def host(url: str) -> str:
    """The host of a URL without www; the URL itself where it has none."""
    try:
        name = urlsplit(url).hostname or url
    except ValueError:
        name = url
    return name.removeprefix("www.")


def plain(text: str) -> str:
    """A text that Markdown shows as it stands: what it would read as markup is escaped."""
    return _MARKUP.sub(r"\\\g<0>", text)


def clipped(text: str, limit: int) -> str:
    """The text, cut with an ellipsis where it is too long for its place."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"
