from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dashboard.cards import figure_cards
from dashboard.state import custom_view
from dashboard.views.figures import Figure, _card, figures

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


@pytest.mark.parametrize(
    ("more_is", "change", "tone"),
    [
        ("worse", "+5%", "worse"),
        ("worse", "-5%", "better"),
        ("better", "+3 pt", "better"),
        ("better", "-3 pt", "worse"),
        ("", "+5%", ""),
    ],
)
def test_a_change_has_the_tone_of_what_more_means(more_is: Any, change: str, tone: str) -> None:
    """More latency is worse, more tools with results better; what may be chance has no tone."""
    card = _card(Figure(label="A <b>", value="1", change=change, line=[], meaning="x", more_is=more_is))
    assert card.tone == tone
    assert "A &lt;b&gt;" in figure_cards([card])
