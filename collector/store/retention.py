"""How long rows are kept, and which segments are due by that. Pure: decides over the records of segments, removes nothing.

Invariant: a row goes because of its own time and of nothing else, and never before its time. It may stay up to `SLACK` longer, so that a segment that is partly overdue
is not rewritten every few seconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from msgspec import Struct

from collector.store.segments import Segment

SLACK = timedelta(days=1)
ROOM = 0.9
"""Where content takes more bytes than it may, the oldest goes until it takes this share of them: not a little at every round."""
_OLDEST = datetime.min.replace(tzinfo=UTC)
_KINDS = {
    "spans": "spans",
    "ended": "turns",
    "violations": "turns",
    "content": "content",
    "turn_minutes": "rollups",
    "stage_minutes": "rollups",
    "turn_steps": "rollups",
    "stage_steps": "rollups",
    "tool_steps": "rollups",
    "source_steps": "rollups",
    "turn_roots": "spans",
}


class Keep(Struct, frozen=True, kw_only=True):
    """How long rows are kept, in days; 0 keeps them for ever. `content_bytes` bounds all prompts and answers together, as segments; 0 is no bound."""

    spans_days: int = 0
    turns_days: int = 0
    rollups_days: int = 0
    content_days: int = 0
    content_bytes: int = 0

    def border(self, table: str, now: datetime) -> datetime | None:
        """The time before which rows of a table are overdue; none where they are kept for ever."""
        days = days_of(table, self)
        return now - timedelta(days=days) if days else None


def days_of(table: str, keep: Keep) -> int | None:
    """For how many days rows of a table are kept, 0 for ever; none where nothing is said of it."""
    return getattr(keep, f"{_KINDS[table]}_days") if table in _KINDS else None


class Due(Struct, frozen=True):
    """Segments that hold nothing but overdue rows, and segments that are to be rewritten with the rows from a time on."""

    whole: list[Segment]
    partly: list[tuple[Segment, datetime]]


def due(segments: Iterable[Segment], keep: Keep, now: datetime) -> Due:
    """What is due of the segments that count."""
    listed = list(segments)
    found = Due([], [])
    for segment in listed:
        border = keep.border(segment.table, now)
        if border is None or segment.last_at is None or segment.first_at is None:
            continue
        if segment.last_at < border:
            found.whole.append(segment)
        elif segment.first_at < border - SLACK:
            found.partly.append((segment, border))
    if keep.content_bytes:
        gone = {segment.file for segment in (*found.whole, *(segment for segment, _ in found.partly))}
        _bound([one for one in listed if one.table == "content" and one.file not in gone], keep.content_bytes, found)
    return found


def _bound(segments: list[Segment], limit: int, found: Due) -> None:
    """Adds the oldest segments beyond a number of bytes; of the one that the bound runs through, as much as does not fit."""
    if sum(segment.bytes for segment in segments) <= limit:
        return
    room = int(limit * ROOM)
    for segment in sorted(segments, key=lambda one: one.last_at or _OLDEST, reverse=True):
        if segment.bytes <= room:
            room -= segment.bytes
            continue
        first, last = segment.first_at, segment.last_at
        if room and first is not None and last is not None and first < last:
            # By time, as if rows were spread evenly: where they are not, the next round sees what is left.
            found.partly.append((segment, last - (last - first) * (room / segment.bytes)))
        else:
            found.whole.append(segment)
        room = 0
