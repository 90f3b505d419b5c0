"""The middle of a turn: retrieval, agent set-up, and attempts until one succeeds or the policy ends them.

Invariant: when `answer` returns, the turn has a verdict and stands in a state from which it can be processed; or `TurnFailed` was raised and nothing is
visible.
"""

from __future__ import annotations

import logging

from lastword.events import CompletionStatus, Origin, Reason
from lastword.states import Signal, State
from service.run.attempt import Finished, run_attempt
from service.run.deps import Deps
from service.run.turn import Turn
from service.turn.failures import REASON_OF, AttemptFailed, FailureKind
from service.turn.journal import AttemptNote
from service.turn.outcome import Ending, Verdict
from service.turn.policy import Budget, Closed, Decision, backoff_ms, decide

logger = logging.getLogger(__name__)


class TurnFailed(Exception):
    """The turn ends with an error event: nothing was shown, and there is no safe answer."""

    def __init__(self, kind: FailureKind) -> None:
        super().__init__(kind.value)
        self.kind = kind


def answer(turn: Turn, deps: Deps) -> None:
    """Runs a turn from its `ack` to a verdict.

    Raises:
        TurnFailed: to be closed with an error event.
    """
    deadline = deps.watchdog.watch(turn.deadline_mono_ns, lambda: _stop(turn, FailureKind.DEADLINE))
    try:
        _prepare(turn, deps)
        _attempts(turn, deps)
    except AttemptFailed as failure:  # ended from outside before the first attempt, or while waiting for the next
        _give_up(turn, failure.kind, _decide(turn, failure, attempts_left=0, wait_ms=0, cheaper_tier=False))
    finally:
        deadline.cancel()


def _stop(turn: Turn, kind: FailureKind) -> None:
    turn.control.stop(kind)


def _prepare(turn: Turn, deps: Deps) -> None:
    route = turn.chosen_route
    if route.retrieval is not None:
        turn.step(Signal.RETRIEVE)
        turn.control.check()
        try:
            turn.passages = deps.knowledge.search(turn.ask.request.message, route.retrieval.top_k)
        except (
            Exception
        ) as error:  # the boundary to a replaceable part: an answer without evidence beats none, and is visible as such
            logger.exception("retrieval failed for %s", turn.turn_id)
            turn.retrieval_error = type(error).__name__
        for passage in turn.passages:
            turn.sources.add(
                passage.url, Origin.RETRIEVAL, title=passage.title, publisher=passage.publisher, score=passage.score
            )
    turn.step(Signal.SET_UP)
    turn.control.check()
    deps.tools.specs(route.tools)  # raises here, in its own stage, where a tool is gone


def _attempts(turn: Turn, deps: Deps) -> None:
    """Tries until a verdict: each round is one attempt and one decision. Ends, for tiers and attempts in a tier are finite."""
    route = turn.chosen_route
    in_tier = 0
    while True:
        in_tier += 1
        turn.step(Signal.TRY)
        turn.model = deps.routes.model(turn.tier)
        note = AttemptNote(
            n=len(turn.attempts) + 1, model=turn.model, model_tier=turn.tier, start_ns=turn.machine.transitions[-1].at_ns
        )
        turn.attempts.append(note)
        try:
            turn.verdict = _verdict(turn, run_attempt(turn, deps, note))
        except AttemptFailed as failure:
            wait_ms = backoff_ms(
                in_tier,
                base_ms=route.backoff_base_ms,
                cap_ms=route.backoff_cap_ms,
                jitter=deps.rng.random(),
                retry_after_s=failure.retry_after_s,
            )
            cheaper = turn.tiers.index(turn.tier) + 1 < len(turn.tiers)
            decision = _decide(
                turn, failure, attempts_left=route.attempts_per_tier - in_tier, wait_ms=wait_ms, cheaper_tier=cheaper
            )
            note.decision = decision.value
            logger.info("%s attempt %d: %s, so %s", turn.turn_id, note.n, failure.error_type, decision.value)
            if decision is Decision.RETRY:
                _pause(turn, wait_ms)
            elif decision is Decision.DEGRADE:
                _pause(turn, 0)
                turn.tier = turn.tiers[turn.tiers.index(turn.tier) + 1]
                in_tier = 0
            else:
                _give_up(turn, failure.kind, decision)
                return
        else:
            return


def _pause(turn: Turn, wait_ms: int) -> None:
    turn.step(Signal.ATTEMPT_FAILED)
    turn.control.stop_event.wait(wait_ms / 1000)
    stopped = turn.control.stopped
    if stopped is not None:
        raise AttemptFailed(stopped)


def _decide(turn: Turn, failure: AttemptFailed, *, attempts_left: int, wait_ms: int, cheaper_tier: bool) -> Decision:
    return decide(
        failure.kind,
        closed=Closed(visible=turn.machine.visible, side_effects=turn.side_effects),
        budget=Budget(attempts_left=attempts_left, left_ms=turn.left_ms, wait_ms=wait_ms),
        cheaper_tier=cheaper_tier,
        fallback=turn.chosen_route.fallback is not None,
    )


def _verdict(turn: Turn, finished: Finished) -> Verdict:
    """What the turn's status is after a try that did not fail."""
    match finished.ending:
        case Ending.TRUNCATED:
            return Verdict(status=CompletionStatus.TRUNCATED, reason=Reason.OUTPUT_LIMIT, finish_reason=finished.finish_reason)
        case Ending.REFUSED:
            return Verdict(status=CompletionStatus.REFUSED, reason=Reason.REFUSAL, finish_reason=finished.finish_reason)
        case _:
            status = CompletionStatus.DEGRADED if turn.degraded else CompletionStatus.SUCCESS
            reason = _first_failure(turn) if turn.degraded else None
            return Verdict(status=status, reason=reason, finish_reason=finished.finish_reason)


def _first_failure(turn: Turn) -> Reason | None:
    """Why the tier that the route chose was left."""
    return next((Reason(note.outcome) for note in turn.attempts if note.outcome != "ok"), None)


def _give_up(turn: Turn, kind: FailureKind, decision: Decision) -> None:
    """Ends the attempts as the policy said."""
    reason = REASON_OF[kind]
    match decision:
        case Decision.STOP:
            turn.verdict = Verdict(status=CompletionStatus.CANCELLED, reason=reason)
        case Decision.KEEP_PARTIAL:
            turn.verdict = Verdict(status=CompletionStatus.INTERRUPTED, reason=reason)
        case Decision.FALL_BACK:
            _fall_back(turn, reason)
        case _:
            raise TurnFailed(kind)


def _fall_back(turn: Turn, reason: Reason) -> None:
    if turn.machine.state is State.ATTEMPT:
        turn.step(Signal.ATTEMPT_FAILED)
    turn.step(Signal.FALL_BACK)
    turn.begin_text()
    turn.fallback = True
    turn.show(turn.chosen_route.fallback or "")
    turn.show_rest()
    turn.verdict = Verdict(status=CompletionStatus.FALLBACK, reason=reason)
