"""What happened inside the attempts of a turn: provider calls and tool calls, with their times.

Plain data that the worker fills in and from which the attempts of the terminal and the spans are made. Times are nanoseconds since acceptance.
"""

from __future__ import annotations

from msgspec import Struct, field

from lastword.events import Attempt, ToolOutcome, Usage
from service.turn.timings import NS_PER_MS


class CallNote(Struct, kw_only=True):
    """One provider call."""

    model: str
    start_ns: int
    end_ns: int = 0
    response_id: str | None = None
    response_model: str | None = None
    request_id: str | None = None
    first_chunk_ns: int | None = None
    stop_reason: str | None = None
    error_type: str | None = None
    usage: Usage = Usage(complete=False)


class ToolNote(Struct, kw_only=True):
    """One tool call."""

    name: str
    call_id: str
    start_ns: int
    end_ns: int
    outcome: ToolOutcome
    error_type: str | None = None

    @property
    def duration_ms(self) -> int:
        """Length of the call in milliseconds."""
        return (self.end_ns - self.start_ns) // NS_PER_MS


class AttemptNote(Struct, kw_only=True):
    """One try at the model."""

    n: int
    model: str
    model_tier: str
    start_ns: int
    end_ns: int = 0
    outcome: str = "ok"
    error_type: str | None = None
    decision: str | None = None  # what the policy made of its failure
    visible: bool = False
    calls: list[CallNote] = field(default_factory=list)
    tools: list[ToolNote] = field(default_factory=list)

    @property
    def usage(self) -> Usage:
        """Tokens over all calls of the try."""
        return sum((call.usage for call in self.calls), Usage())

    def as_event(self) -> Attempt:
        """The attempt as the terminal tells it."""
        return Attempt(
            n=self.n,
            model=self.model,
            model_tier=self.model_tier,
            outcome=self.outcome,
            error_type=self.error_type,
            visible=self.visible,
            provider_request_id=next((call.request_id for call in reversed(self.calls) if call.request_id), None),
            usage=self.usage,
            duration_ms=max(0, self.end_ns - self.start_ns) // NS_PER_MS,
        )
