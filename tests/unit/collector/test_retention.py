"""How long rows are kept: each table by its own time, and content within its bytes."""

from datetime import UTC, datetime, timedelta

from collector.store.retention import Due, Keep, due
from collector.store.segments import Segment

NOW = datetime(2026, 11, 29, tzinfo=UTC)


def segment(table, first_days, last_days, *, file="", size=100):
    """A segment of rows between so many days ago."""
    first, last = (NOW - timedelta(days=days) for days in (first_days, last_days))
    return Segment(table, file or f"{table}-{first_days}", 0, 10, size, first, last)


def test_each_table_goes_by_its_own_days():
    """Spans of 8 days ago are overdue after 7; turns and rollups of that age are not, and violations go with turns."""
    tables = ("spans", "ended", "violations", "turn_minutes", "stage_minutes", "content")
    keep = Keep(spans_days=7, turns_days=30, rollups_days=90, content_days=2)
    assert [
        [one.table for one in due([segment(table, age + 1, age) for table in tables], keep, NOW).whole]
        for age in (3, 8, 31, 91)
    ] == [
        ["content"],
        ["spans", "content"],
        ["spans", "ended", "violations", "content"],
        list(tables),
    ]


def test_nothing_is_overdue_where_it_is_kept_for_ever():
    """0 is for ever, and so is a table that nobody has given days."""
    every = Keep(spans_days=1, turns_days=1, rollups_days=1, content_days=1)
    assert due([segment("spans", 9999, 9998)], Keep(), NOW) == Due([], [])
    assert due([segment("alerts", 9999, 9998)], every, NOW) == Due([], [])


def test_segment_that_is_partly_overdue_is_cut_after_a_day():
    """A long segment is rewritten once its oldest rows are overdue by more than a day, and no row is dropped before its time."""
    keep = Keep(spans_days=7)
    assert due([segment("spans", 7.9, 1)], keep, NOW) == Due([], [])
    assert due([old := segment("spans", 8.1, 1)], keep, NOW) == Due([], [(old, NOW - timedelta(days=7))])
    assert due([segment("spans", 7.1, 7)], keep, NOW).whole == []


def test_content_beyond_its_bytes_goes_oldest_first():
    """The newest stay up to nine tenths of the bound; the segment that it runs through is cut, what is older goes whole."""
    new, middle, old = (segment("content", days + 1, days, size=60) for days in (1, 3, 5))
    spans = segment("spans", 9, 8, size=10**9)
    assert due([new, middle, old, spans], Keep(content_bytes=180), NOW) == Due([], [])
    found = due([old, spans, new, middle], Keep(content_bytes=100), NOW)
    assert found.whole == [old]
    ((cut, border),) = found.partly
    assert cut == middle
    assert middle.first_at < border < middle.last_at


def test_content_of_one_moment_goes_whole():
    """What cannot be cut by time is not cut in vain for ever."""
    flat = segment("content", 3, 3, size=500)
    assert due([flat], Keep(content_bytes=100), NOW) == Due([flat], [])
