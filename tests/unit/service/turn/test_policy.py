"""The one decision after a failure."""

import itertools

import pytest

from service.turn.failures import REASON_OF, FailureKind
from service.turn.policy import (
    MODEL_SPECIFIC,
    RETRYABLE_BY_CLIENT,
    STOPPED_BY_CLIENT,
    TRANSIENT,
    Budget,
    Closed,
    Decision,
    backoff_ms,
    decide,
)

PLENTY = Budget(attempts_left=1, left_ms=10_000, wait_ms=100)
SPENT = Budget(attempts_left=0, left_ms=10_000, wait_ms=100)
OPEN = Closed()


def choose(kind, closed=OPEN, budget=PLENTY, *, cheaper_tier=True, fallback=True):
    return decide(kind, closed=closed, budget=budget, cheaper_tier=cheaper_tier, fallback=fallback)


def test_policy_never_calls_the_provider_after_visible_text():
    """Whatever fails and whatever is left: once text is visible there is no retry, no degrade, no canned answer and no error."""
    for kind, budget, tier, fallback in itertools.product(FailureKind, (PLENTY, SPENT), (True, False), (True, False)):
        decision = choose(kind, Closed(visible=True), budget, cheaper_tier=tier, fallback=fallback)
        assert decision is (Decision.STOP if kind in STOPPED_BY_CLIENT else Decision.KEEP_PARTIAL)


@pytest.mark.parametrize("kind", sorted(TRANSIENT))
def test_policy_retries_then_degrades_then_falls_back(kind):
    """A transient failure spends its tries, then its tiers, then the safe answer, then there is an error."""
    assert choose(kind) is Decision.RETRY
    assert choose(kind, budget=SPENT) is Decision.DEGRADE
    assert choose(kind, budget=SPENT, cheaper_tier=False) is Decision.FALL_BACK
    assert choose(kind, budget=SPENT, cheaper_tier=False, fallback=False) is Decision.FAIL


def test_policy_refuses_a_pause_that_the_budget_cannot_pay():
    """A `retry-after` beyond the deadline is not waited for: the next tier is tried instead."""
    assert (
        choose(FailureKind.RATE_LIMITED, budget=Budget(attempts_left=3, left_ms=5_000, wait_ms=3_600_000)) is Decision.DEGRADE
    )


@pytest.mark.parametrize(
    ("left_ms", "wait_ms", "cheaper_tier", "decision"),
    [
        (1_000, 999, True, Decision.RETRY),
        (1_000, 1_000, True, Decision.DEGRADE),  # a pause up to the deadline itself leaves no time to answer
        (1_000, 1_001, True, Decision.DEGRADE),
        (1, 1, True, Decision.DEGRADE),
        (1, 1, False, Decision.FALL_BACK),
        (0, 0, True, Decision.FALL_BACK),  # a tier without time is none
        (0, 0, False, Decision.FALL_BACK),
    ],
)
def test_policy_spends_no_time_that_is_not_left(left_ms, wait_ms, cheaper_tier, decision):
    """At the limits themselves, where one millisecond decides."""
    budget = Budget(attempts_left=1, left_ms=left_ms, wait_ms=wait_ms)
    assert choose(FailureKind.OVERLOADED, budget=budget, cheaper_tier=cheaper_tier) is decision


@pytest.mark.parametrize(
    "kind", sorted(set(FailureKind) - TRANSIENT - STOPPED_BY_CLIENT - MODEL_SPECIFIC - {FailureKind.SHUTDOWN})
)
def test_policy_neither_repeats_nor_degrades_what_no_model_can_help(kind):
    """A deadline or a bug of ours: the safe answer, else an error, whatever is left."""
    assert choose(kind) is Decision.FALL_BACK
    assert choose(kind, fallback=False) is Decision.FAIL


@pytest.mark.parametrize("kind", sorted(STOPPED_BY_CLIENT))
@pytest.mark.parametrize("closed", [OPEN, Closed(visible=True), Closed(side_effects=True)])
def test_policy_stops_when_the_client_wants_it(kind, closed):
    """Nothing else is considered."""
    assert choose(kind, closed) is Decision.STOP
    assert choose(kind, closed, SPENT, cheaper_tier=False, fallback=False) is Decision.STOP


def test_policy_after_side_effects_without_a_safe_answer_is_an_error():
    """Not another try, and not a cheaper tier."""
    for kind in TRANSIENT | MODEL_SPECIFIC:
        assert choose(kind, Closed(side_effects=True), fallback=False) is Decision.FAIL


def test_sets_of_kinds_are_what_they_are_meant_to_be():
    """A kind that changes its set changes what people get: written out once more, so that it is meant."""
    names = {kind.value for kind in TRANSIENT}
    assert names == set(
        "overloaded rate_limited server_error network truncated corrupt first_token_timeout stall_timeout".split()
    )
    assert {kind.value for kind in RETRYABLE_BY_CLIENT - TRANSIENT} == {"deadline", "shutdown"}
    assert {kind.value for kind in MODEL_SPECIFIC} == {"bad_request"}


def test_policy_does_not_repeat_what_the_model_would_refuse_again():
    """A bad request goes to another model, not to the same one."""
    for kind in MODEL_SPECIFIC:
        assert choose(kind) is Decision.DEGRADE


def test_policy_closes_the_window_after_side_effects():
    """A tool with side effects that has run forbids another try, even while nothing is visible."""
    assert choose(FailureKind.OVERLOADED, Closed(side_effects=True)) is Decision.FALL_BACK


def test_policy_answers_a_shutdown_before_text_with_an_error():
    """The next process can answer: no canned text."""
    assert choose(FailureKind.SHUTDOWN) is Decision.FAIL


def test_every_failure_kind_has_a_reason():
    """The contract's reasons are total over our kinds."""
    assert set(REASON_OF) == set(FailureKind)


def test_backoff_grows_is_capped_and_honours_retry_after():
    """Half the ceiling is fixed and half is jitter; the provider's wish is a lower bound."""
    assert [backoff_ms(n, base_ms=100, cap_ms=1000, jitter=0.0) for n in (1, 2, 3, 9)] == [50, 100, 200, 500]
    assert backoff_ms(1, base_ms=100, cap_ms=1000, jitter=0.999) == 100
    assert backoff_ms(1, base_ms=100, cap_ms=1000, jitter=0.5, retry_after_s=7) == 7000
