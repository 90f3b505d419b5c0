"""One turn from its first state to its terminal: what a worker thread runs.

The boundary of the thread: whatever goes wrong inside, the turn gets its one terminal, or its request an HTTP status.
"""

from __future__ import annotations

import logging

from lastword.events import CompletionStatus, Reason
from service import problems
from service.run import beginning, ending, middle
from service.run.deps import Deps
from service.run.turn import Turn
from service.store.engine import AWAY
from service.turn.failures import FailureKind
from service.turn.outcome import Verdict

logger = logging.getLogger(__name__)


def run_turn(turn: Turn, deps: Deps) -> None:
    """Runs one turn, whole. Never raises."""
    try:
        if _begin(turn, deps):
            _answer(turn, deps)
    finally:
        turn.log.close()
        if turn.stored:
            deps.turn_ended(turn)


def _answer(turn: Turn, deps: Deps) -> None:
    """From `ack` to the terminal."""
    try:
        try:
            middle.answer(turn, deps)
            ending.finish(turn, deps)
        except middle.TurnFailed as failed:
            ending.fail(turn, deps, failed.kind)
    except Exception:  # the boundary: a bug of ours still owes the client a terminal
        logger.exception("%s broke in state %s", turn.turn_id, turn.machine.state)
        _close_broken(turn, deps)


def _begin(turn: Turn, deps: Deps) -> bool:
    """Whether the turn was acknowledged. Where not, the request is answered with an HTTP status."""
    try:
        beginning.begin(turn, deps)
    except problems.Attached as attached:
        turn.attached_to = attached.turn_id
        return False
    except problems.Rejected as rejected:
        turn.rejected = rejected
    except AWAY:
        logger.exception("%s met a database that cannot be reached, before ack", turn.turn_id)
        turn.rejected = problems.unavailable()
    except Exception:  # the boundary: before `ack` a bug of ours is a 500
        logger.exception("%s broke in state %s, before ack", turn.turn_id, turn.machine.state)
        turn.rejected = problems.internal()
    else:
        return True
    if turn.stored:
        ending.fail(turn, deps, FailureKind.INTERNAL)
    return False


def _close_broken(turn: Turn, deps: Deps) -> None:
    """Closes a turn that broke half way: what was shown is kept, and nothing is said of why."""
    try:
        if turn.machine.visible:
            turn.text_complete = False
            turn.verdict = Verdict(status=CompletionStatus.INTERRUPTED, reason=Reason.INTERNAL_ERROR)
            ending.finish(turn, deps)
        else:
            ending.fail(turn, deps, FailureKind.INTERNAL)
    except Exception:  # nothing is left to try: the collector will report the turn as abandoned
        logger.exception("%s has no terminal", turn.turn_id)
