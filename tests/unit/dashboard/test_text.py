from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboard import text

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ms", "said"),
    [
        (None, "–"),
        (0, "0 ms"),
        (999.4, "999 ms"),
        (999.6, "1.00 s"),
        (3270, "3.27 s"),
        (9_994, "9.99 s"),
        (9_999, "10.0 s"),
        (59_990, "1 min"),
        (125_000, "2 min 5 s"),
        (3_600_000, "1 h"),
        (5_400_000, "1 h 30 min"),
    ],
)
def test_duration_reads_in_the_unit_that_suits_it(ms: float | None, said: str) -> None:
    """Every unit's edge, and no value at all."""
    assert text.duration(ms) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "–"), (0, "0%"), (0.0004, "<0.1%"), (0.0174, "1.7%"), (0.0995, "10%"), (0.64, "64%"), (1, "100%")],
)
def test_share_tells_small_ones_from_none(value: float | None, said: str) -> None:
    """A rate that is not zero never reads as 0%."""
    assert text.share(value) == said


def test_change_without_something_to_compare_with_is_none() -> None:
    """No earlier value, or an earlier zero, gives no percentage."""
    assert text.change_of(5, None) is None
    assert text.change_of(5, 0) is None
    assert text.change_of(None, 5) is None


def test_change_has_a_sign() -> None:
    """Up, down and no change each read as such."""
    assert [text.change_of(now, 100) for now in (112, 98, 100.2)] == ["+12%", "-2%", "±0%"]
    assert [text.change_in_points(now, 0.1) for now in (0.109, 0.08, 0.1)] == ["+0.9 pt", "-2.0 pt", "±0 pt"]


@pytest.mark.parametrize(
    ("back", "said"),
    [
        (timedelta(seconds=4), "4 s ago"),
        (timedelta(minutes=12), "12 min ago"),
        (timedelta(hours=5), "5 h ago"),
        (timedelta(days=3), "3 days ago"),
        (timedelta(seconds=-5), "0 s ago"),
    ],
)
def test_age_reads_in_one_unit(back: timedelta, said: str) -> None:
    """The unit grows with the age; a clock that is ahead does not make it negative."""
    assert text.ago(NOW - back, NOW) == said


def test_unknown_time_zone_is_utc() -> None:
    """A browser that sends no or an unknown zone still gets times."""
    assert text.zone("Europe/Zurich").utcoffset(NOW) == timedelta(hours=1)
    assert text.zone(None) is UTC
    assert text.zone("../../etc/passwd") is UTC


def test_time_of_another_day_has_its_date() -> None:
    """Today's times are times; older ones say which day."""
    assert text.clock(NOW, UTC, NOW) == "12:00:00"
    assert text.clock(NOW - timedelta(days=1), UTC, NOW) == "23 Nov 12:00:00"


def test_host_of_anything_is_text() -> None:
    """A host where there is one, the text itself where there is none."""
    assert text.host("https://www.example.org/a") == "example.org"
    assert text.host("no url") == "no url"
    assert text.host("http://[bad") == "http://[bad"


def test_plain_text_is_no_markup() -> None:
    """What somebody else wrote is shown as it stands, without links, code, colours or headings."""
    assert text.plain("[a](b) *c* :red[d]") == r"\[a\]\(b\) \*c\* \:red\[d\]"
    assert text.plain("12% broken") == "12% broken"
