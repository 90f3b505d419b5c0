from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dashboard import markup
from lastword.events import CompletionStatus

NASTY = "<script>alert(1)</script>\"'"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def turn(**changed: object) -> dict[str, object]:
    return {
        "turn_id": "trn_0123456789abcdef",
        "ended_at": NOW,
        "route": "knowledge",
        "model_tier": "smart",
        "status": "success",
        "reason": None,
        "first_token_ms": 12,
        "total_ms": 300,
        "attempts": 1,
        "sources_count": 2,
        **changed,
    }


def test_stored_text_never_becomes_markup() -> None:
    """Ids, routes, titles and reasons come from outside; every one of them is escaped."""
    drawn = [
        markup.turn_table(
            [turn(turn_id=NASTY, route=NASTY, model_tier=NASTY, status=NASTY, reason=NASTY)],
            tz=UTC,
            now=NOW,
            kept={"route": NASTY},
        ),
        markup.table([{NASTY: NASTY}]),
        markup.timeline([(NASTY, NASTY, NASTY, "error")]),
        markup.source_cards([{"url": NASTY, "title": NASTY, "publisher": NASTY, "origins": [NASTY], "score": None}]),
        markup.agreement([(NASTY, NASTY, NASTY, NASTY, NASTY, "good")]),
        markup.tool_table([(NASTY, NASTY, NASTY, "good", NASTY)]),
        markup.turn_head(NASTY, []),
        markup.link_table([{"a": NASTY, NASTY: NASTY}], [markup.page_link("turns", {"tool": NASTY}, NASTY)]),
        markup.slice_table([(markup.page_link("turns", {}, NASTY), 0.5, 0.1, NASTY, NASTY, NASTY)], NASTY),
        markup.result_table([NASTY, "turn_id"], [[NASTY, NASTY]], 1, {"route": NASTY}),
        markup.trouble_table([(NASTY, NASTY, NASTY, "error", True)]),
        markup.alert_head([], NASTY, NASTY),
        markup.meter(3, 2, NASTY),
    ]
    assert not any("<script" in body for body in drawn)


def test_only_web_addresses_become_links() -> None:
    """A stored URL of another scheme is shown and cannot be followed."""
    card = {"title": "T", "publisher": None, "origins": None, "score": 0.5}
    assert "<a " in markup.source_cards([{**card, "url": "https://a.example/x"}])
    assert "<a " not in markup.source_cards([{**card, "url": "javascript:alert(1)"}])


def test_turn_link_carries_the_filters() -> None:
    """A turn's address leads back to the view it was opened from."""
    assert markup.turn_url("trn_1", {"window": "6h", "route": "a b"}) == "/turn?id=trn_1&window=6h&route=a+b"


@pytest.mark.parametrize("status", [*CompletionStatus, "error", "abandoned"])
def test_every_status_has_a_symbol_beside_its_colour(status: str) -> None:
    """Colour is never all that tells two statuses apart."""
    assert markup.status_badge(status).count("·") == 0
    assert str(status) in markup.status_badge(status)


@pytest.mark.parametrize("status", ["triumphant", None])
def test_unknown_status_is_not_success(status: str | None) -> None:
    """The contract: a reader takes an unknown value as not-success."""
    assert "lw-error" in markup.status_badge(status)


def test_figures_stand_to_the_right() -> None:
    """A column of numbers is aligned, a column of words is not."""
    drawn = markup.table([{"Tool": "a", "Calls": "1,200"}, {"Tool": "b", "Calls": "–"}])
    assert drawn.count('class="lw-right"') == 3


@pytest.mark.parametrize(("value", "words"), [(12.0, "2.0 times"), (3.0, "0.5 times"), (0.0, "0.0 times")])
def test_meter_says_in_words_what_it_draws(value: float, words: str) -> None:
    """The bar is hidden from those who cannot see it; the sentence has both numbers."""
    drawn = markup.meter(value, 6.0, " nats")
    assert words in drawn
    assert "threshold of 6 nats" in drawn


def test_dates_are_no_figures() -> None:
    """A column of times reads from the left, though it begins with digits."""
    assert "lw-right" not in markup.table([{"Ended": "29 Nov 03:00:00 to 29 Nov 03:10:00"}])
    assert "lw-right" in markup.table([{"Turns": "29"}])
