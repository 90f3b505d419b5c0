"""What every lane streams: so many pieces of text at such a pace, asked for in the question itself. Each piece tells when it was made."""

from __future__ import annotations

import re
import time

from msgspec import Struct

_ASKED = re.compile(r"\bn=(\d+) pace=(\d+)")
STAMP = re.compile(rb"@(\d+)@")


class Script(Struct, frozen=True):
    """`n` pieces, `pace_ms` before each."""

    n: int
    pace_ms: int

    @property
    def question(self) -> str:
        """The question that asks for it."""
        return f"n={self.n} pace={self.pace_ms}"


SILENT = "silent"
"""The question whose answer never begins."""


def script_of(question: str) -> Script:
    """What a question asks for; 20 pieces without a pause where it does not say."""
    asked = _ASKED.search(question)
    return Script(int(asked[1]), int(asked[2])) if asked else Script(20, 0)


def piece() -> str:
    """One piece of text, with the reading of the machine's monotonic clock at which it was made, in nanoseconds."""
    return f"@{time.monotonic_ns()}@lorem ipsum "
