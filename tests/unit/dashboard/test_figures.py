from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dashboard.state import custom_view
from dashboard.views.figures import Figure, figures
from dashboard.views.overview import _columns

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
VIEW = custom_view(START, START + timedelta(hours=1))


def window(turns: int = 1000, broken: int = 10, **changed: Any) -> dict[str, Any]:
    return {
        "turns": turns,
        "broken": broken,
        "client_left": 3,
        "first_token_p95_ms": 1000.0,
        "total_p95_ms": 5000.0,
        **changed,
    }


def tool(period: str, results: int, calls: int) -> dict[str, Any]:
    return {"period": period, "bucket": None, "name": None, "calls": calls, "results": results}


def drawn(now: dict[str, Any], before: dict[str, Any] | None, tools: list[dict[str, Any]] | None = None) -> dict[str, Figure]:
    return {figure.label: figure for figure in figures(VIEW, now, before, [], tools or [])}


def test_five_figures_stand_in_their_order() -> None:
    """The page's five numbers, by name."""
    assert list(drawn(window(), None)) == ["Turns", "Partial rate", "First token p95", "Total p95", "Tools with results"]


def test_without_a_window_before_nothing_changes() -> None:
    """No comparison is no change, rather than a change from zero."""
    assert {figure.change for figure in drawn(window(), None, [tool("now", 1, 2), tool("before", 1, 2)]).values()} == {None}


@pytest.mark.parametrize(("broken", "more_is"), [(60, "worse"), (11, "")])
def test_partial_rate_has_a_colour_only_beyond_chance(broken: int, more_is: str) -> None:
    """Six times the rate is coloured, one more broken turn of a thousand is not; both show their change."""
    figure = drawn(window(broken=broken), window())["Partial rate"]
    assert figure.more_is == more_is
    assert figure.change is not None


def test_latency_that_hardly_moved_stays_grey() -> None:
    """Less than a tenth is the daily up and down."""
    cards = drawn(window(first_token_p95_ms=1050.0, total_p95_ms=9000.0), window())
    assert (cards["First token p95"].more_is, cards["Total p95"].more_is) == ("", "worse")


def test_latency_of_turns_that_showed_nothing_is_unknown() -> None:
    """No first token in the whole window reads as a dash, never as 0 ms."""
    card = drawn(window(first_token_p95_ms=None), window())["First token p95"]
    assert (card.value, card.change) == ("–", None)


def test_no_tool_called_is_not_zero_results() -> None:
    """Without calls there is no share."""
    assert drawn(window(), window())["Tools with results"].value == "–"


def test_readers_who_left_are_named_apart() -> None:
    """The partial rate's help says how many are not in it."""
    assert "3 readers" in drawn(window(), None)["Partial rate"].meaning


@pytest.mark.parametrize(("cards", "columns"), [(1, 1), (4, 4), (5, 5), (6, 3), (8, 4), (9, 3), (12, 4)])
def test_cards_leave_the_last_row_nearly_full(cards: int, columns: int) -> None:
    """Of three to five columns, those that leave the fewest empty places."""
    assert _columns(cards) == columns
