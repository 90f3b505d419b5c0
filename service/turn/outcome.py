"""What a provider's stop reason means for the turn. Pure; closed: what is not listed is never success."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from lastword.events import CompletionStatus, Reason


class Ending(StrEnum):
    """What follows the end of one provider call."""

    COMPLETE = "complete"
    TRUNCATED = "truncated"
    REFUSED = "refused"
    TOOLS = "tools"
    PAUSED = "paused"
    UNKNOWN = "unknown"


_ENDINGS = {
    "end_turn": Ending.COMPLETE,
    "stop_sequence": Ending.COMPLETE,
    "max_tokens": Ending.TRUNCATED,
    "model_context_window_exceeded": Ending.TRUNCATED,
    "refusal": Ending.REFUSED,
    "tool_use": Ending.TOOLS,
    "pause_turn": Ending.PAUSED,
}


def ending_of(stop_reason: str | None) -> Ending:
    """What the provider's word means; `unknown` for null and for words that are not known."""
    return _ENDINGS.get(stop_reason or "", Ending.UNKNOWN)


class Verdict(Struct, frozen=True, kw_only=True):
    """How a turn ended, as its done event will say it."""

    status: CompletionStatus
    reason: Reason | None = None
    finish_reason: str | None = None
