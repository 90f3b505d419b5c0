"""Turns of a service over time, put into a collector's store by the way that received ones take."""

from __future__ import annotations

import random
import threading

from collector.writer import Rows

MINUTE_NS = 60_000_000_000


class Clock:
    """A clock that is set by hand, in nanoseconds since 1970."""

    def __init__(self, minute: int) -> None:
        self.ns = minute * MINUTE_NS

    def __call__(self) -> int:
        return self.ns

    def at(self, minute: int, second: int = 21) -> None:
        """Sets it to a second of the minute behind `minute`: the time at which that minute is judged."""
        self.ns = (minute + 1) * MINUTE_NS + second * 1_000_000_000


def minute_of_turns(minute, *, rates, per_minute=20, seed=0, left=0.0, only_version=None):
    """The rows of a minute: `rates` has the chance that a turn breaks by (route, tier), or that one of a version does."""
    dice = random.Random(f"{minute}/{seed}")
    rows = []
    for (route, tier), rate in rates.items():
        for number in range(per_minute):
            version = "12"[number % 2]
            broken = dice.random() < rate and only_version in (None, version)
            gone = not broken and dice.random() < left
            ended = minute * MINUTE_NS + (number * 60 // per_minute) * 1_000_000_000 + 7_000_000
            rows.append(
                {
                    "turn_id": f"trn_{minute}_{route}_{tier}_{number}_{seed}",
                    "trace_id": f"{dice.getrandbits(128):032x}",
                    "started_ns": ended - 2_000_000_000,
                    "ended_ns": ended,
                    "terminal": "done",
                    "route": route,
                    "model_tier": tier,
                    "model": f"model-{tier}",
                    "completion_status": "partial" if broken else "cancelled" if gone else "answered",
                    "partial": broken,
                    "reason": "provider_truncated" if broken else "client_disconnected" if gone else None,
                    "sources_count": 1,
                    "service_name": "test",
                    "service_version": version,
                    "service_instance": "one",
                }
            )
    return rows


def store(parts, rows):
    """Stores turns, and returns when they are."""
    stored, answer = threading.Event(), []

    def done(error):
        answer.append(error)
        stored.set()

    parts.writer.submit(Rows(ended=rows), done)
    assert stored.wait(30)
    assert answer == [None]
