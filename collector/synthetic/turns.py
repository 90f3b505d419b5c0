"""Realistic turns as values: seeded, with routes, tiers, every status, tools, sources and an incident. `collector.synthetic.requests` makes requests of them."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from collector.synthetic.maker import Maker
from collector.synthetic.world import INCIDENT, SyntheticTurn

HOURS_A_DAY = 24
INCIDENT_HOURS = 2
"""How long the incident is where turns lie over more than a day."""
TALKING = 12
"""Conversations that go on at a time."""


def synthesize(count: int, *, seed: int = 7, end: datetime | None = None, hours: float = 6) -> Iterator[SyntheticTurn]:
    """`count` turns that were accepted over the `hours` before `end`, the oldest first, in conversations of one to five."""
    rng = random.Random(seed)
    end = end or datetime.now(UTC)
    span = timedelta(hours=hours)
    places = sorted(_place(rng, hours) for _ in range(count))
    incident_ends = INCIDENT[1] if hours <= HOURS_A_DAY else INCIDENT[0] + INCIDENT_HOURS / hours
    talking: deque[str] = deque(maxlen=TALKING)
    for place in places:
        if talking and rng.random() < 0.55:
            conversation = rng.choice(talking)
        else:
            conversation = f"cnv_{rng.getrandbits(128):032x}"
            talking.append(conversation)
        started_at = end - timedelta(seconds=8) - span * (1 - place)
        yield Maker(rng, started_at, conversation, incident=INCIDENT[0] <= place <= incident_ends).make()


def _place(rng: random.Random, hours: float) -> float:
    """When a turn comes, from 0 to 1: traffic swells towards the middle of a day, and never dries up."""
    days = max(1, round(hours / HOURS_A_DAY))
    return (rng.randrange(days) + rng.betavariate(1.4, 1.2)) / days
