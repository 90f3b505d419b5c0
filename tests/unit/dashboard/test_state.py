from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from dashboard import queries, state
from dashboard.state import PRESETS, TARGET_BUCKETS, custom_view, only, preset_view, read_custom, write_custom

NOW = datetime(2026, 11, 24, 12, 0, 3, tzinfo=UTC)


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_window_is_whole_buckets_and_few_of_them(preset: str) -> None:
    """The window divides into whole buckets, at most as many as a chart should have and enough to show a course."""
    view = preset_view(preset, NOW, 10)
    assert view.length == PRESETS[preset]
    assert (view.end_ms - view.start_ms) % view.bucket_ms == 0
    assert 20 <= view.buckets <= TARGET_BUCKETS
    assert view.live


def test_refreshes_within_one_interval_ask_the_same_question() -> None:
    """Panels that refresh a moment apart share their window, and with it the cached result."""
    assert preset_view("1h", NOW, 10) == preset_view("1h", NOW + timedelta(seconds=6), 10)
    assert preset_view("1h", NOW, 10) != preset_view("1h", NOW + timedelta(seconds=8), 10)


@pytest.mark.parametrize("preset", [name for name, length in PRESETS.items() if length >= state.STEPPED])
def test_long_windows_are_whole_steps(preset: str) -> None:
    """So that rollups answer for them, and for the window before; a short one stays as it is."""
    for view in (preset_view(preset, NOW, 10), custom_view(NOW, NOW + PRESETS[preset])):
        assert queries.chosen("overview", view.params()) == "rolled/overview"
        assert PRESETS[preset] <= view.length <= PRESETS[preset] + timedelta(minutes=10)
    assert custom_view(NOW, NOW + timedelta(hours=1)).start == NOW


def test_previous_window_ends_where_this_one_begins() -> None:
    """The comparison is with the window of the same length just before."""
    view = custom_view(NOW, NOW + timedelta(minutes=7))
    assert view.start - view.before == view.length
    assert not view.live


def test_unknown_preset_falls_back_to_the_usual_window() -> None:
    """A link with a window that does not exist shows the default one."""
    assert preset_view("3y", NOW, 10).length == PRESETS[state.DEFAULT_WINDOW]


def test_custom_window_survives_the_url() -> None:
    """What a drag wrote is what the next visitor reads, to the second."""
    first, last = write_custom(NOW.timestamp() * 1000 + 250, (NOW.timestamp() + 120) * 1000 + 250)
    assert read_custom(first, last) == (NOW, NOW + timedelta(seconds=121))


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (None, None),
        ("x", "y"),
        ("2026-11-24T12:00:00Z", "2026-11-24T12:00:01Z"),
        ("2026-11-24T12:00:00Z", "2026-11-24T11:00:00Z"),
        ("2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T01:00:00Z"),
        ("9999-12-31T22:59:00Z", "9999-12-31T23:30:00Z"),
    ],
)
def test_senseless_custom_window_is_none(start: str | None, end: str | None) -> None:
    """Missing, unreadable, too short, turned round, too long or at the end of time: no window, rather than an error or a query over years."""
    assert read_custom(start, end) is None


def test_drag_is_widened_to_the_shortest_window() -> None:
    """A drag of a pixel still makes a window that can be read back."""
    assert read_custom(*write_custom(1_000_000, 1_000_001)) is not None


def test_queries_get_the_parameters_they_name_and_no_others() -> None:
    """Engines refuse a parameter that the statement does not name."""
    assert only(frozenset({"route"}), preset_view("1h", NOW, 10, route="a").params()) == {"route": "a"}
