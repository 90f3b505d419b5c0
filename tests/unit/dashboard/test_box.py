from __future__ import annotations

import pytest

from dashboard.views.stages import Box, read_box


def test_box_of_an_address_is_read() -> None:
    """Start, end, least and most, in milliseconds."""
    assert read_box("1000~2000~5~90") == Box(start_ms=1000, end_ms=2000, low_ms=5, high_ms=90)


@pytest.mark.parametrize(
    "value",
    ["", "1~2~3", "1000~2000~5~x", "2000~1000~5~90", "1000~2000~90~5", "-1~2~3~4", "1" * 16 + "~2~3~4", "1~2~3~4~5", "²~3~4~5"],
)
def test_box_that_is_none_is_ignored(value: str) -> None:
    """Whatever stands in an address, the page opens."""
    assert read_box(value) is None
