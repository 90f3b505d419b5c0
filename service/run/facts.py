"""What the spans tell of an ended turn, read from the turn and its terminal."""

from __future__ import annotations

from lastword.events import Done, Reason
from service.run.turn import Turn
from service.spans import TurnFacts

_BY_CLIENT = frozenset({Reason.CLIENT_CANCELLED, Reason.CLIENT_DISCONNECTED})


def turn_facts(turn: Turn, provider: str) -> TurnFacts:
    """The facts of a turn that has a terminal."""
    terminal = turn.terminal
    if terminal is None:
        raise AssertionError("the turn has no terminal")
    done = terminal.metadata if isinstance(terminal, Done) else None
    reason = terminal.metadata.reason
    retrieval = turn.route.retrieval if turn.route else None
    partial = done is not None and done.partial
    return TurnFacts(
        turn_id=turn.turn_id,
        accepted_ns=turn.anchor.wall_ns,
        conversation_id=turn.conversation_id or None,
        provider=provider,
        route=terminal.metadata.route,
        model_tier=terminal.metadata.model_tier,
        data_source=retrieval.data_source if retrieval else None,
        top_k=retrieval.top_k if retrieval else 0,
        hits=len(turn.passages),
        retrieval_error=turn.retrieval_error,
        status=done.completion_status.value if done else None,
        partial=partial,
        reason=reason.value if reason else None,
        provider_fault=(partial or done is None) and reason not in _BY_CLIENT,
        sources_count=len(done.sources) if done else 0,
        usage=terminal.metadata.usage,
        attempts=tuple(turn.attempts),
    )
