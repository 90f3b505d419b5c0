"""One turn: its log, the readings of its clock, and what was noted on the way."""

import asyncio
import hashlib
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

STAGES = ("authMs", "precheckMs", "conversationContextMs", "routeMs", "retrievalMs", "agentSetupMs", "modelWaitMs", "streamMs")
USAGE = ("inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens")


class Fault(Exception):
    """A provider call that did not end well. `reason` is the contract's word."""

    def __init__(self, reason: str, kind: str, *, retry: bool = True, retry_after: float = 0.0) -> None:
        super().__init__(kind)
        self.reason, self.kind, self.retry, self.retry_after = reason, kind, retry, retry_after


@dataclass
class Span:
    """A stretch of the turn, in nanoseconds of the clock since 1970."""

    name: str
    start: int
    end: int
    attributes: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(8))


def no_usage() -> dict[str, Any]:
    return dict.fromkeys(USAGE, 0) | {"complete": True}


@dataclass
class Turn:
    """State of one turn. `frames` is the log."""

    caller: str
    request: dict[str, Any]
    payload: str = ""
    id: str = field(default_factory=lambda: f"turn_{secrets.token_urlsafe(24)}".replace(".", "-"))
    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))
    parent_span: str = ""
    root: str = field(default_factory=lambda: secrets.token_hex(8))
    wall: int = field(default_factory=time.time_ns)
    mono: int = field(default_factory=time.monotonic_ns)
    route: str = ""
    tier: str = ""
    model: str | None = None
    conversation: str = ""
    on_disconnect: str = "continue"
    deadline_s: float = 0.0
    frames: list[bytes] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    raw: str = ""
    held: str = ""
    terminal: dict[str, Any] | None = None
    ended_at: float = 0.0
    stopped: str = ""
    attempts: list[dict[str, Any]] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: dict[str, tuple[int, int]] = field(default_factory=dict)
    spans: list[Span] = field(default_factory=list)
    first_ns: int | None = None
    last_ns: int | None = None
    viewers: int = 0
    task: asyncio.Task[None] | None = None
    waiters: list[asyncio.Future[None]] = field(default_factory=list)

    def now(self) -> int:
        """Nanoseconds since acceptance."""
        return time.monotonic_ns() - self.mono

    @property
    def seq(self) -> int:
        """The number of the newest event."""
        return len(self.frames)

    def wake(self) -> None:
        """Wakes every viewer."""
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)
        self.waiters.clear()

    async def changed(self, timeout_s: float) -> bool:
        """Waits for the next event; false after a time without."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiters.append(waiter)
        try:
            await asyncio.wait_for(waiter, timeout_s)
        except TimeoutError:
            return False
        return True

    def stop(self, why: str) -> None:
        """Ends the turn from outside; the first reason counts."""
        if not self.stopped and self.terminal is None and self.task is not None:
            self.stopped = why
            self.task.cancel()

    def digest(self) -> str:
        return hashlib.sha256("".join(self.texts).encode()).hexdigest()

    def usage(self) -> dict[str, Any]:
        total = no_usage()
        for attempt in self.attempts:
            for name in USAGE:
                total[name] += attempt["usage"][name]
            total["complete"] = total["complete"] and attempt["usage"]["complete"]
        return total
