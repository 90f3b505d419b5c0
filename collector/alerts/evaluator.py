"""The evaluator's thread: every minute, what ended in it is judged, and what follows is written down in one transaction.

Owns the watches and how conditions stand; both are made anew from the store at a start, and after a failure in the middle of a minute. Reads the store through the views
that everybody queries. What was judged and could not be written waits in memory and is written with the next minute.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import duckdb
from msgspec import Struct

from collector.alerts import explanation, messages
from collector.alerts.alert import (
    MINUTE_NS,
    Alert,
    Event,
    Judged,
    Scan,
    alert_of,
    episode_of,
    event_of_episode,
    label,
)
from collector.alerts.detector import DEFAULT_PHI, HISTORY_HOURS, REACH, REWORKED_HOURS, Detector, Series
from collector.alerts.ledger import KEPT_NS, Delivery, Ledger
from collector.alerts.minutes import bounds, counting, read_minutes
from collector.alerts.outbox import addressed
from collector.alerts.rules import Rule
from collector.alerts.standing import Standing
from collector.alerts.tally import Tally
from collector.alerts.visible import smallest_multiple
from collector.alerts.watch import Change, Watch
from collector.store.hot import StoreError
from collector.store.store import Store

logger = logging.getLogger(__name__)

START_SETTLES = 3
"""After a start, nothing is judged for so many times as long as a minute settles: senders that were refused in between try again."""
CAUGHT_UP_MINUTES = 1440
"""Minutes that passed while nobody judged are judged later, but no further back."""
LATE_MINUTES = 10
"""Minutes before the longest window that are read anew, so that every window sees what came late."""
ALIVE_S = 300
"""Without a judged minute for so long, the watchdog is told no more."""
SEEN_EVERY = 10
"""Minutes after which it is computed anew what a series could show: it changes slowly."""
EXPLAINED_AT = (0, 2, 5, 10)
"""Minutes behind its firing at which an episode is explained: there is more to see each time."""


class Configured(Struct, frozen=True, kw_only=True):
    """What the evaluator is to do: `receivers` are the names of those who are told, `objective` the share of whole answers that was promised.

    A minute is judged `settle_s` seconds behind its end: what is sent in batches has come by then.
    """

    objective: float = 0.95
    settle_s: int = 20
    rules: Sequence[Rule] = ()
    receivers: Sequence[str] = ()
    dashboard_url: str = ""


def scans(objective: float) -> list[Scan]:
    """The rules of the detector."""
    everything = ("all", "route", "tier", "route_tier")
    return [
        Scan("partial_rate", "broken", "page", everything, 1 - objective, "broken"),
        Scan("client_left", "client_left", "ticket", ("all", "route"), 0.2, "left by their readers"),
        Scan("abandoned", "abandoned", "ticket", ("all",), 0.01, "abandoned"),
    ]


_KINDS = {"broken": "broken", "client_left": "client_left", "abandoned": "terminal = 'abandoned'"}
"""Column of the minutes to the condition on `turns` that it counts."""


class Outcome(Struct):
    """What is to be written."""

    alerts: dict[str, Alert]
    events: list[Event]
    deliveries: list[Delivery]

    def merge(self, other: Outcome) -> None:
        """Adds what came later."""
        self.alerts.update(other.alerts)
        self.events += other.events
        self.deliveries += other.deliveries


class Evaluator:
    """Judges every minute until it is closed."""

    def __init__(
        self,
        store: Store,
        ledger: Ledger,
        configured: Configured,
        *,
        told: Callable[[], None],
        tally: Tally,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """`told` is called when there is something to be told."""
        self._store = store
        self._ledger = ledger
        self._configured = configured
        self._told = told
        self._tally = tally
        self._clock = clock
        self._started_ns = clock()
        self._scans = scans(configured.objective)
        self._watches: list[tuple[Scan, Watch]] = []
        self._standing = Standing(
            store, objective=configured.objective, written=configured.rules, dashboard_url=configured.dashboard_url
        )
        self._series_judged: list[Judged] = []
        self._alerts: dict[str, Alert] = {}
        self._unwritten = Outcome({}, [], [])
        self._done: int | None = None
        self._written: int | None = None
        self._pruned_day: int | None = None
        self._visible: dict[tuple[str, Series], list[float | None]] = {}
        self.judged: list[Judged] = []
        self.failures = 0
        self.seconds = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="evaluator", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def close(self) -> None:
        """Ends behind the minute that is being judged."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        for _, watch in self._watches:
            watch.detector.close()

    @property
    def judged_at_s(self) -> float:
        """The end of the last minute that was judged and written, in seconds since 1970; 0 before the first."""
        return 0.0 if self._written is None else (self._written + 1) * 60.0

    @property
    def alive(self) -> bool:
        """Whether minutes are judged: the last one lately, or the first one soon."""
        return self._clock() / 1e9 - (self.judged_at_s or self._started_ns / 1e9) < ALIVE_S

    def detector(self, rule: str) -> Detector:
        """The detector of a rule; there is one once the first minute was judged."""
        return next(watch.detector for scan, watch in self._watches if scan.rule == rule)

    # --- the thread

    def _run(self) -> None:
        settle_s = self._configured.settle_s
        pause_s = float(START_SETTLES * settle_s)
        while not self._stop.wait(pause_s):
            self.tick()
            now_s = self._clock() / 1e9
            pause_s = max(1.0, (now_s - settle_s) // 60 * 60 + 60 + settle_s - now_s)

    def tick(self) -> bool:
        """Judges the minutes that are due; whether that went well. A failure is told on /metrics, and the minutes are tried again."""
        minute = (self._clock() // 1_000_000_000 - self._configured.settle_s) // 60 - 1
        begun = time.monotonic()
        try:
            if not self._watches:
                self._warm_up(minute)
            first = minute + 1 if self._done is None else self._done + 1
            if first <= minute:
                self._judge(first, minute)
                self._done = minute
            self._write()
            self._written = self._done
            if first <= minute:  # after the pages: a rule may be slow
                self._look_at_rules(minute)
                self._write()
            self._keep_house(minute)
        except StoreError as error:  # what is to be written waits
            self._failed(error)
            return False
        except Exception as error:  # noqa: BLE001 - the end of this thread would be the end of all alerts
            self._failed(error)
            self._forget()
            return False
        self.seconds = time.monotonic() - begun
        return True

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        logger.error("a minute could not be judged, and is tried again: %s", error, exc_info=error)

    def _forget(self) -> None:
        """Lets everything be made anew from the store: a step may have failed in its middle."""
        for _, watch in self._watches:
            watch.detector.close()
        self._watches = []

    # --- beginning

    def _warm_up(self, minute: int) -> None:
        """Takes over from the process before, and learns what is usual."""
        before = self._ledger.judged_minute()
        if self._done is None:  # after a failure, its minutes are to be judged
            self._done = minute - 1 if before is None else max(min(before, minute - 1), minute - CAUGHT_UP_MINUTES)
        known = self._ledger.alerts(since_ns=(minute - HISTORY_HOURS * 60) * MINUTE_NS)
        known = list(({alert.alert_id: alert for alert in known} | self._unwritten.alerts).values())
        of_scans = {scan.rule for scan in self._scans}
        self._alerts = {alert.alert_id: alert for alert in known}
        now = self._clock()
        gone = self._standing.restore([one for one in known if one.rule not in of_scans and one.state == "firing"], now)
        self._take(gone, now)
        with self._store.reading() as reader:
            span = bounds(reader)
            first = self._done if span is None else max(span[0], self._done - (HISTORY_HOURS + REWORKED_HOURS) * 60)
            table = read_minutes(reader, first, minute)
        watches = []
        for scan in self._scans:
            watch = Watch(Detector(scan.prior, scan.scopes), scan.rule)
            watch.detector.load(counting(table, scan.column), first, minute)
            watch.restore([episode_of(alert) for alert in known if alert.rule == scan.rule])
            watch.warm_up(self._done + 1, first)
            watches.append((scan, watch))
        self._watches = watches

    # --- a minute

    def _judge(self, first: int, last: int) -> None:
        """Judges the minutes `first` to `last`; tells of conditions only as they are in the last."""
        outcome = Outcome({}, [], [])
        hours_turn = last // 60 > (first - 1) // 60
        start = first - (REWORKED_HOURS * 60 if hours_turn else REACH + LATE_MINUTES)
        with self._store.reading() as reader:
            table = read_minutes(reader, start, last)
            judged: list[Judged] = []
            for scan, watch in self._watches:
                watch.detector.load(counting(table, scan.column), start, last)
                changes = watch.advance(first, last - 1) if first < last else []
                changes += watch.advance(last, last, least=0.0)
                self._note(scan, watch, changes, outcome)
                judged += self._series(scan, watch, last)
            self._tally.update(reader, last)
        for scan, watch in self._watches:
            self._look(scan, watch, last, outcome)
        settled = self._clock() - self._started_ns > 12 * MINUTE_NS  # before it, the traffic of a start is still coming in
        alerts, events = self._standing.look(self.detector("partial_rate"), last, settled=settled)
        outcome.alerts.update({alert.alert_id: alert for alert in alerts})
        outcome.events += events
        self._address(outcome, (last + 1) * MINUTE_NS)
        self._unwritten.merge(outcome)
        self._series_judged = judged
        self.judged = [*judged, *self._standing.judged(last)]

    def _look_at_rules(self, minute: int) -> None:
        self._take(self._standing.look_at_rules(minute), (minute + 1) * MINUTE_NS)
        self.judged = [*self._series_judged, *self._standing.judged(minute)]

    def _note(self, scan: Scan, watch: Watch, changes: Sequence[Change], outcome: Outcome) -> None:
        """Turns changes of episodes into alerts and events."""
        for change in changes:
            fresh = alert_of(scan, change.episode)
            if (known := self._alerts.get(fresh.alert_id)) is not None:
                fresh.explanation, fresh.link = known.explanation, known.link
            self._alerts[fresh.alert_id] = fresh
            outcome.alerts[fresh.alert_id] = fresh
            outcome.events.append(event_of_episode(change, fresh))
        kept = {episode.id for episode in watch.episodes}
        for alert_id in [one.alert_id for one in self._alerts.values() if one.rule == scan.rule and one.alert_id not in kept]:
            del self._alerts[alert_id]

    def _look(self, scan: Scan, watch: Watch, minute: int, outcome: Outcome) -> None:
        """Explains the episodes that are young."""
        for episode in watch.open:
            alert = self._alerts[episode.id]
            late = alert.alert_id in outcome.alerts  # it fired in these minutes, or while nobody judged
            if not episode.covering or (minute - episode.fired not in EXPLAINED_AT and not late):
                continue
            until = (minute + 1) * MINUTE_NS
            try:
                with self._store.reading() as reader:  # of its own: a failure ends the transaction that it happens in
                    alert.explanation = explanation.explain(reader, alert, kind=_KINDS[scan.column], until_ns=until)
            except duckdb.Error as error:  # a page without its reasons is better than none
                logger.warning("an alert could not be explained: %s", error)
            alert.link = messages.link(alert, self._configured.dashboard_url)
            outcome.alerts[alert.alert_id] = alert

    def _series(self, scan: Scan, watch: Watch, minute: int) -> list[Judged]:
        """How each series stands."""
        hour = watch.detector.counts(minute - 59, minute)
        phis = watch.detector.phis()
        firing = {episode.series: episode.id for episode in watch.open}
        judged = []
        for series in watch.detector.series:
            counts, best = hour.get(series), watch.latest.get(series)
            own = {window: phi for (other, window), phi in phis.items() if other == series}
            baseline = counts.e / counts.n if counts is not None and counts.n else None
            key = (scan.rule, series)
            if minute % SEEN_EVERY == 0 or key not in self._visible:
                self._visible[key] = [
                    smallest_multiple(counts.n / 60, baseline, own, watch.threshold, within) if counts and baseline else None
                    for within in (15, 60)
                ]
            visible = self._visible[key]
            state = "firing" if series in firing else "ok" if counts is not None and counts.n else "no_data"
            judged.append(
                Judged(
                    rule=scan.rule,
                    scope=series.scope,
                    route=label(series.route),
                    model_tier=label(series.tier),
                    minute_ns=minute * MINUTE_NS,
                    state=state,
                    turns=0 if counts is None else counts.n,
                    broken=0 if counts is None else counts.k,
                    expected=0.0 if counts is None else counts.e,
                    baseline=baseline,
                    evidence=0.0 if best is None else best.evidence,
                    threshold=watch.threshold,
                    window_minutes=None if best is None or not best.evidence else best.window,
                    restlessness=own.get(60, DEFAULT_PHI),
                    visible_15=visible[0],
                    visible_60=visible[1],
                    alert_id=firing.get(series),
                )
            )
        return judged

    # --- telling

    def _take(self, changed: tuple[list[Alert], list[Event]], now_ns: int) -> None:
        """Lets changes be written and told."""
        alerts, events = changed
        outcome = Outcome({alert.alert_id: alert for alert in alerts}, events, [])
        self._address(outcome, now_ns)
        self._unwritten.merge(outcome)

    def _address(self, outcome: Outcome, now_ns: int) -> None:
        """Puts a message for every receiver beside each event."""
        if outcome.events and self._configured.receivers:
            silences, untold = self._ledger.silences(now_ns), self._ledger.silenced()
            outcome.deliveries += addressed(outcome.events, self._configured.receivers, silences, untold, now_ns)

    def _keep_house(self, minute: int) -> None:
        """Tells what still fires when its silence has ended, and once a day removes what is old."""
        now = self._clock()
        untold, silences = self._ledger.silenced(), self._ledger.silences(now)
        firing = [alert for alert in (*self._alerts.values(), *self._standing.firing) if alert.state == "firing"]
        heard = [
            alert.alert_id
            for alert in firing
            if alert.alert_id in untold and not any(silence.keeps(alert, now) for silence in silences)
        ]
        if heard and self._configured.receivers:
            self._ledger.requeue(heard, self._configured.receivers, now)
            self._told()
        if minute // 1440 != self._pruned_day:
            self._ledger.prune(now - KEPT_NS)
            self._pruned_day = minute // 1440

    def _write(self) -> None:
        out = self._unwritten
        self._ledger.record(list(out.alerts.values()), out.events, out.deliveries, self.judged)
        self._unwritten = Outcome({}, [], [])
        if out.deliveries:
            self._told()
