"""Our detector on a world, by the way that `lastword alerts replay` takes: minutes read with the collector's SQL, loaded, walked by its watch."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from benchmarks.alerts.scenarios import DAY, ORIGIN, WARM_UP_DAYS, Rows, stored
from collector.alerts.evaluator import scans
from collector.alerts.replay import Span, episodes


class Page(Struct, frozen=True):
    """A page: minutes of the world. `resolved` is none where it did not end."""

    fired: int
    resolved: int | None


def scan(parts: Sequence[Rows]) -> list[Page]:
    """The pages of the scored days."""
    minutes = max(len(part.n) for part in parts)
    over = Span(ORIGIN, ORIGIN + WARM_UP_DAYS * DAY, ORIGIN + minutes - 1)
    (rule,) = (rule for rule in scans(0.95) if rule.severity == "page")
    with stored(parts) as store:
        return [
            Page(episode.fired - ORIGIN, None if episode.resolved is None else episode.resolved - ORIGIN)
            for episode in episodes(store, rule, over)
            if episode.root
        ]
