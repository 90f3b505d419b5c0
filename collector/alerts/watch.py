"""Episodes of a detector: when a series begins to break, which of the series that follow are the same incident, and when it is over.

Owns the open episodes and those that still matter for what is usual. Knows no clock, no store and no words: minutes go in, changes come out, in order. Invariant: the
changes of a stretch of minutes are the same whether it is walked in one go, minute by minute, or after a restart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from hashlib import sha256

from msgspec import Struct

from collector.alerts.detector import BASE_NATS, HISTORY_HOURS, REACH, Detector, Evidence, Excluded, Series, threshold

STEP_HOURS = 2
"""Hours that are walked at once. What is usual in them depends on nothing that happens in them."""
WIDEN_MINUTES = 10
"""A wider series that breaks so soon after a narrower one is the same incident, not one more."""
ADAPTATION_MINUTES = 360
"""An episode that lasts longer becomes what is usual: from then on its minutes count."""
SILENT_MINUTES = 60
"""An episode whose series has had no turn for so long is over: nobody is hurt, and nothing can be known."""
KEPT_MINUTES = 4 * 1440
"""Minutes that are kept for those who look back: a budget over three days, traffic at the same ten minutes three days ago."""
LEAST_MINUTES = 5
"""An episode lasts at least so long."""


class Episode(Struct):
    """A series that breaks, from `since` (the beginning of the window that told it) over `fired` to `resolved`, minutes since 1970.

    `covering` says that its turns are explained by it: what overlaps it is a symptom. `evidence` is that of the minute in which it fired, `latest` that of the last one
    that was seen. Resolved means that the rate lies below `limit`.
    """

    id: str
    incident: str
    series: Series
    since: int
    fired: int
    evidence: Evidence
    threshold: float
    limit: float
    root: bool
    covering: bool
    resolved: int | None = None
    why: str | None = None
    latest: Evidence | None = None


class Change(Struct, frozen=True):
    """What happened in a minute: an episode `fired` (one page), `joined` or `widened` an incident that was told already, or `resolved`."""

    minute: int
    kind: str
    episode: Episode


class Watch:
    """The episodes of one detector. `rule` names it in the ids of episodes."""

    def __init__(self, detector: Detector, rule: str, *, base: float = BASE_NATS) -> None:
        self.detector = detector
        self._rule = rule
        self._base = base
        self.episodes: list[Episode] = []
        self._ends: dict[str, tuple[int, str] | None] = {}
        self._hour: int | None = None
        self.latest: dict[Series, Evidence] = {}

    @property
    def open(self) -> list[Episode]:
        """Episodes that are not resolved."""
        return [episode for episode in self.episodes if episode.resolved is None]

    @property
    def threshold(self) -> float:
        """The evidence that fires, in nats."""
        return threshold(len(self.detector.series), self._base)

    def restore(self, episodes: Iterable[Episode]) -> None:
        """Takes over the episodes of a process that ended, before `warm_up`."""
        self.episodes = sorted(episodes, key=lambda episode: episode.fired)

    def warm_up(self, minute: int, first: int) -> None:
        """Learns what is usual from the loaded minutes, which begin at `first`, so that `minute` is the next one to be walked."""
        hour = minute // 60
        self._exclude(hour)
        self.detector.warm_up(max(first // 60, hour - HISTORY_HOURS), hour)
        self._hour = hour
        for episode in self.episodes:
            if episode.resolved is not None and episode.resolved > minute - REACH:
                self._restart(episode)

    def advance(self, first: int, last: int, *, least: float | None = None) -> list[Change]:
        """Walks the minutes `first` to `last`, which are loaded. With `least`, notes evidence of that much in `latest` though it is below the threshold."""
        changes: list[Change] = []
        while first <= last:
            end = min(last, (first // 60 // STEP_HOURS + 1) * STEP_HOURS * 60 - 1)
            changes += self._step(first, end, least)
            first = end + 1
        return changes

    def _step(self, first: int, last: int, least: float | None) -> list[Change]:
        if self._hour is None or last // 60 > self._hour:
            start = first // 60 if self._hour is None else max(first // 60, self._hour + 1)
            self._exclude(start)
            self.detector.refresh(start, last // 60)
            self._hour = last // 60
            self._forget(first)
        limit = self.threshold
        seen = self.detector.evidence(first, last, least=limit if least is None else least)
        if least is not None:
            self.latest = {}
        by_minute: dict[int, dict[Series, Evidence]] = {}
        for one in seen:
            by_minute.setdefault(one.minute, {})[one.series] = one
        self._ends = {episode.id: self._end(episode, first, last) for episode in self.open}
        changes: list[Change] = []
        for minute in range(first, last + 1):
            for episode in self.open:
                if (end := self._ends.get(episode.id)) is not None and end[0] <= minute:
                    changes.append(self._resolve(episode, minute, end[1]))
                    self._look_again(episode, minute, last, by_minute, limit if least is None else least)
            here = by_minute.get(minute, {})
            busy = {episode.series for episode in self.open}
            candidates = [one for one in here.values() if one.evidence >= limit and one.series not in busy]
            for one in sorted(candidates, key=lambda one: (-one.plain, one.series)):
                change = self._begin(one, limit)
                changes.append(change)
                self._ends[change.episode.id] = self._end(change.episode, minute, last)
            for episode in self.open:
                episode.latest = here.get(episode.series, episode.latest)
            if least is not None and minute == last:
                self.latest = here
        return changes

    # --- beginnings

    def _begin(self, one: Evidence, limit: float) -> Change:
        """What a series above the threshold is: an incident of its own, or part of one that is open."""
        covers = [episode for episode in self.open if episode.covering and episode.series.overlaps(one.series)]
        kind, host = "fired", None
        if covers:
            host = min(covers, key=lambda episode: (episode.fired, episode.id))
            rest = self.detector.evidence(
                one.minute, one.minute, least=limit, only=[one.series], without=[episode.series for episode in covers]
            )
            if not rest:
                kind = "joined"
            elif one.minute - min(episode.fired for episode in covers) <= WIDEN_MINUTES:
                kind = "widened"
            else:
                one, host = rest[0], None
        usual = one.e / one.n
        name = sha256("/".join((self._rule, one.series.key, str(one.minute))).encode()).hexdigest()[:16]
        episode = Episode(
            id=name,
            incident=name if host is None else host.incident,
            series=one.series,
            since=one.minute - one.window + 1,
            fired=one.minute,
            evidence=one,
            threshold=limit,
            limit=math.sqrt(usual * one.k / one.n),
            root=host is None,
            covering=kind != "joined",
            latest=one,
        )
        self.episodes.append(episode)
        return Change(one.minute, kind, episode)

    # --- ends

    def _end(self, episode: Episode, first: int, last: int) -> tuple[int, str] | None:
        """When an episode ends, up to the minute `last`, and why."""
        earliest = max(first, episode.fired + LEAST_MINUTES)
        if earliest > last:
            return None
        minute = self.detector.recovered(episode.series, after=episode.fired, first=earliest, last=last, limit=episode.limit)
        if minute is not None:
            return minute, "recovered"
        newest = self.detector.newest(episode.series, last)
        silent = max(earliest, (episode.fired if newest is None else newest) + SILENT_MINUTES)
        return (silent, "silent") if silent <= last else None

    def _resolve(self, episode: Episode, minute: int, why: str) -> Change:
        episode.resolved, episode.why = minute, why
        self._restart(episode)
        return Change(minute, "resolved", episode)

    def _restart(self, episode: Episode) -> None:
        """Keeps windows from the minutes of an episode that is over: they would tell it once more."""
        if episode.resolved is not None:
            for series in self._touched(episode):
                self.detector.restart(series, episode.resolved)

    def _touched(self, episode: Episode) -> list[Series]:
        if not episode.covering:
            return [episode.series]
        return [series for series in self.detector.series if series.overlaps(episode.series)]

    def _look_again(
        self, episode: Episode, minute: int, last: int, by_minute: dict[int, dict[Series, Evidence]], least: float
    ) -> None:
        """Replaces the evidence of series whose windows were cut off."""
        touched = self._touched(episode)
        for later in range(minute, last + 1):
            for series in touched:
                by_minute.get(later, {}).pop(series, None)
        if minute < last:
            for one in self.detector.evidence(minute + 1, last, least=least, only=touched):
                by_minute.setdefault(one.minute, {})[one.series] = one

    # --- what is usual

    def _exclude(self, hour: int) -> None:
        """Tells the detector which minutes are no measure, as it was known when the step of this hour began."""
        known = 60 * (hour - hour % STEP_HOURS)
        self.detector.exclude(
            Excluded(
                episode.series,
                episode.since,
                min(episode.since + ADAPTATION_MINUTES, episode.resolved if episode.resolved is not None else known),
            )
            for episode in self.episodes
            if episode.covering and episode.fired < known
        )

    def _forget(self, minute: int) -> None:
        """Lets go of episodes and minutes that no count will need again."""
        border = minute - (HISTORY_HOURS + 48) * 60
        self.episodes = [episode for episode in self.episodes if episode.resolved is None or episode.resolved > border]
        self.detector.forget(minute - KEPT_MINUTES)
