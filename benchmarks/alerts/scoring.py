"""Scores of a detector's pages on worlds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from benchmarks.alerts.replaying import Page
from benchmarks.alerts.scenarios import Cell, World

LATE_MINUTES = 5
"""A page so long behind an incident's end still counts: its last minute is judged after it."""


class Found(Struct, frozen=True):
    """An incident, and how long it took to page and to resolve, in minutes; none where it was missed, or not resolved by the next one."""

    cell: Cell
    times: float
    minutes: int
    to_page: int | None
    to_resolve: int | None


def match(world: World, pages: Sequence[Page]) -> list[Found]:
    """Each incident with its page."""
    found = []
    for incident in world.incidents:
        hits = [page for page in pages if incident.start <= page.fired < incident.end + LATE_MINUTES]
        first = min(hits, key=lambda page: page.fired, default=None)
        # A minute is judged when it is over: the page is a minute later than its name.
        to_page = None if first is None else first.fired - incident.start + 1
        resolved = None if first is None or first.resolved is None else first.resolved - incident.end + 1
        found.append(Found(world.cell, incident.times, incident.end - incident.start, to_page, resolved))
    return found


def waiting(found: Sequence[Found], turns_per_s: float, times: float, minutes: int) -> str:
    """Minutes to page: median and 95th percentile over all such incidents, a dash where so many were missed."""
    chosen = [one for one in found if (one.cell.turns_per_s, one.times, one.minutes) == (turns_per_s, times, minutes)]
    values = np.sort([np.inf if one.to_page is None else one.to_page for one in chosen])
    if not len(values):
        return "-"
    return "/".join(_shown(values[min(len(values) - 1, int(np.ceil(q * len(values))) - 1)]) for q in (0.5, 0.95))


def _shown(value: float) -> str:
    return "-" if np.isinf(value) else f"{value:.0f}"
