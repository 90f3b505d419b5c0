"""What the reference server can be told. Times are short: it is checked hundreds of times."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Settings:
    """Seconds, bytes and counts; `work` is where turns survive a restart, nowhere by default."""

    provider: str = ""
    otlp: str = ""
    port: int = 0
    work: Path | None = None
    heartbeat_s: float = 0.25
    first_token_s: float = 0.9
    stall_s: float = 0.7
    deadline_s: float = 5.0
    grace_s: float = 0.8
    send_timeout_s: float = 0.8
    retention_s: float = 60.0
    max_turns: int = 32
    max_body: int = 100_000
    tool_s: float = 0.2
    attempts: int = 2
    tiers: tuple[tuple[str, str], ...] = (("smart", "reference-smart"), ("fast", "reference-fast"))
    routes: dict[str, str | None] = field(default_factory=lambda: {"answered": "Please try again later.", "bare": None})
    keys: tuple[str, ...] = ("one", "two", "few")
    limited: dict[str, int] = field(default_factory=lambda: {"few": 3})
