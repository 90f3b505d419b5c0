"""What a caller may do: the closed set of scopes, the limits, and the two together as a grant.

Owns the words. Knows no database, no HTTP and no clock.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

ANONYMOUS = "anonymous"
"""The caller of a service that asks for no key."""


class Scope(StrEnum):
    """What a key may be good for. Closed; documented in docs/keys.md."""

    ASK = "ask"  # begin turns, and cancel one's own
    READ = "read"  # follow, replay and look at one's own turns and conversations
    ROUTE = "route"  # wish a route
    TIER = "tier"  # wish a model tier


ALL_SCOPES = frozenset(Scope)
USUAL_SCOPES = frozenset({Scope.ASK, Scope.READ})
"""What a new key gets unless it is said otherwise: a wish may cost more than the route would, so it has to be allowed."""

MAX_TURNS_PER_MINUTE = 1_000_000
MAX_TOKENS_PER_DAY = 10**15


class Limits(Struct, frozen=True, kw_only=True):
    """How much a caller may do; None is without a limit."""

    turns_per_minute: int | None = None
    tokens_per_day: int | None = None

    @property
    def any(self) -> bool:
        """Whether there is something to enforce."""
        return self.turns_per_minute is not None or self.tokens_per_day is not None


NO_LIMITS = Limits()


class Grant(Struct, frozen=True, kw_only=True):
    """Who asks, and what that caller may do. `caller` owns turns and conversations, is counted and is limited."""

    caller: str
    scopes: frozenset[Scope] = ALL_SCOPES
    limits: Limits = NO_LIMITS
