"""Our detector on a world, by the way that the collector takes: minutes read with its SQL, loaded, walked by its watch."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from benchmarks.alerts.scenarios import DAY, ORIGIN, WARM_UP_DAYS, Rows, stored
from collector.alerts.detector import Detector
from collector.alerts.minutes import counting, read_minutes
from collector.alerts.watch import Watch

PRIOR = 0.05


class Page(Struct, frozen=True):
    """A page: minutes of the world. `resolved` is none where it did not end."""

    fired: int
    resolved: int | None


def scan(parts: Sequence[Rows]) -> list[Page]:
    """The pages of the scored days."""
    with stored(parts) as store:
        minutes = max(len(part.n) for part in parts)
        detector = Detector(PRIOR)
        watch = Watch(detector, "partial_rate")
        table = counting(read_minutes(store, ORIGIN, ORIGIN + minutes - 1), "broken")
        detector.load(table, ORIGIN, ORIGIN + minutes - 1)
        start = ORIGIN + WARM_UP_DAYS * DAY
        watch.warm_up(start, ORIGIN)
        for minute in range(start, ORIGIN + minutes, 120):
            watch.advance(minute, min(minute + 119, ORIGIN + minutes - 1))
        pages = [
            Page(episode.fired - ORIGIN, None if episode.resolved is None else episode.resolved - ORIGIN)
            for episode in watch.episodes
            if episode.root
        ]
        detector.close()
    return pages
