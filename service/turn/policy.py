"""What to do when a try at the model fails: one pure decision.

    before the first visible chunk   retry within the budget, then a cheaper tier, then the safe answer, else an error
    after it                         keep what was shown; never call the provider again
    a tool with side effects ran     as after it, but nothing is shown: the safe answer, else an error

No clock, no randomness: the caller brings the remaining budget and a random number.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from service.turn.failures import FailureKind


class Decision(StrEnum):
    """What happens next."""

    RETRY = "retry"  # the same tier again, after a pause
    DEGRADE = "degrade"  # the next cheaper tier
    FALL_BACK = "fall_back"  # the route's safe answer
    KEEP_PARTIAL = "keep_partial"  # close with what was shown
    STOP = "stop"  # the client wanted it so: close with what there is, perhaps nothing
    FAIL = "fail"  # an error event


STOPPED_BY_CLIENT = frozenset({FailureKind.CANCELLED, FailureKind.DISCONNECTED})
TRANSIENT = frozenset(
    {
        FailureKind.OVERLOADED,
        FailureKind.RATE_LIMITED,
        FailureKind.SERVER_ERROR,
        FailureKind.NETWORK,
        FailureKind.TRUNCATED,
        FailureKind.CORRUPT,
        FailureKind.FIRST_TOKEN_TIMEOUT,
        FailureKind.STALL_TIMEOUT,
    }
)
"""Failures that the same request may survive when it is sent again."""
MODEL_SPECIFIC = frozenset({FailureKind.BAD_REQUEST})
"""Failures that the same model would repeat, but another may not (an unknown model, a context that is too long)."""
RETRYABLE_BY_CLIENT = TRANSIENT | {FailureKind.DEADLINE, FailureKind.SHUTDOWN}
"""Failures after which a client may usefully send the turn again."""


class Budget(Struct, frozen=True, kw_only=True):
    """What is left to spend when a try failed.

    `attempts_left` counts further tries in the current tier; `left_ms` is the time to the turn's deadline; `wait_ms` the pause that
    a retry would make, which already honours the provider's `retry-after`.
    """

    attempts_left: int
    left_ms: int
    wait_ms: int


class Closed(Struct, frozen=True, kw_only=True):
    """What closes the window for another try: visible text, or a tool with side effects that has run."""

    visible: bool = False
    side_effects: bool = False


def decide(kind: FailureKind, *, closed: Closed, budget: Budget, cheaper_tier: bool, fallback: bool) -> Decision:
    """The next step after a failure of this kind.

    Args:
        kind: what went wrong.
        closed: whether the window for another try has closed.
        budget: tries and time that are left.
        cheaper_tier: whether the route has a cheaper tier that was not tried.
        fallback: whether the route has a safe answer.
    """
    if kind in STOPPED_BY_CLIENT:
        return Decision.STOP
    if closed.visible:
        return Decision.KEEP_PARTIAL
    if kind is FailureKind.SHUTDOWN:
        return Decision.FAIL  # the client does better to ask the next process than to read a canned answer
    give_up = Decision.FALL_BACK if fallback else Decision.FAIL
    if closed.side_effects:
        return give_up
    if kind in TRANSIENT and budget.attempts_left > 0 and budget.wait_ms < budget.left_ms:
        return Decision.RETRY
    if kind in TRANSIENT | MODEL_SPECIFIC and cheaper_tier and budget.left_ms > 0:
        return Decision.DEGRADE
    return give_up


def backoff_ms(retry: int, *, base_ms: int, cap_ms: int, jitter: float, retry_after_s: float | None = None) -> int:
    """The pause before retry number `retry` (1 for the first): exponential with equal jitter, at least the provider's `retry-after`.

    `jitter` is uniform in [0, 1). The provider's wish is not capped here: `decide` refuses a pause that the budget cannot pay.
    Source of the formula: Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
    """
    ceiling = min(cap_ms, base_ms << min(retry - 1, 20))
    pause = ceiling / 2 + jitter * ceiling / 2
    return round(max(pause, (retry_after_s or 0.0) * 1000))
