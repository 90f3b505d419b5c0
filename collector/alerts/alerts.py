"""Puts the parts of alerting together: settings in, threads that judge and tell, gauges on /metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

from msgspec import Struct
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector as Source

from collector.alerts import rules
from collector.alerts.alert import MINUTE_NS, Alert, event_of
from collector.alerts.courier import Announcer, Courier
from collector.alerts.evaluator import Configured, Evaluator
from collector.alerts.ledger import TEST, Delivery, Ledger, Silence
from collector.alerts.outbox import addressed
from collector.alerts.receivers import Alertmanager, Slack, Webhook, client
from collector.alerts.tally import Tally
from collector.store.store import Store
from collector.writer import Writer
from lastword.errors import SettingsError


class Wanted(Struct, frozen=True, kw_only=True):
    """What is set about alerts. An empty address stands for no such receiver."""

    objective: float
    settle_s: int = 20
    rules_file: str = ""
    alertmanager_url: str = ""
    webhook_url: str = ""
    webhook_secrets: str = ""
    slack_url: str = ""
    dashboard_url: str = ""


class Alerts:
    """Everything about alerts of a process."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        registry: CollectorRegistry,
        wanted: Wanted,
        *,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """Raises RulesError, SecretUnusable and SettingsError."""
        for name, url in _addresses(wanted).items():
            _check_address(name, url)
        self._clock = clock
        self.ledger = Ledger(store, writer.call)
        self._http = client()
        self._sends = Counter("lastword_alert_sends", "Tries to tell a receiver.", ["receiver", "outcome"], registry=registry)
        self.couriers: list[Courier | Announcer] = []
        if wanted.webhook_url:
            secrets = [secret.strip() for secret in wanted.webhook_secrets.split(",") if secret.strip()]
            self._add(
                Courier(self.ledger, Webhook(self._http, wanted.webhook_url, secrets), self._sent, clock=clock), "webhook"
            )
        if wanted.slack_url:
            self._add(Courier(self.ledger, Slack(self._http, wanted.slack_url), self._sent, clock=clock), "slack")
        if wanted.alertmanager_url:
            receiver = Alertmanager(self._http, wanted.alertmanager_url)
            announcer = Announcer(self.ledger, receiver, self._sent, alive=lambda: self.evaluator.alive, clock=clock)
            self._add(announcer, "alertmanager")
        written = rules.read_rules(Path(wanted.rules_file).expanduser()) if wanted.rules_file else []
        with store.reading() as reader:
            rules.check_rules(written, reader)
        self.receivers = [name for name, url in _addresses(wanted).items() if url]
        configured = Configured(
            objective=wanted.objective,
            settle_s=wanted.settle_s,
            rules=written,
            receivers=self.receivers,
            dashboard_url=wanted.dashboard_url,
        )
        self.evaluator = Evaluator(store, self.ledger, configured, told=self.poke, tally=Tally(registry), clock=clock)
        registry.register(_Gauges(self.evaluator))

    def _add(self, courier: Courier | Announcer, name: str) -> None:
        self.couriers.append(courier)
        for outcome in ("ok", "failed", "dead"):
            self._sends.labels(name, outcome)

    def _sent(self, receiver: str, outcome: str) -> None:
        self._sends.labels(receiver, outcome).inc()

    def start(self) -> None:
        """Begins to judge and to tell."""
        self.evaluator.start()
        for courier in self.couriers:
            courier.start()

    def poke(self) -> None:
        """There is something to tell."""
        for courier in self.couriers:
            courier.poke()

    def close(self) -> None:
        """Ends the threads. Before the writer is closed."""
        self.evaluator.close()
        for courier in self.couriers:
            courier.close()
        self._http.close()

    # --- what people ask for

    def silence(self, *, rule: str | None, route: str | None, model_tier: str | None, minutes: int, comment: str) -> Silence:
        """Tells nobody of some alerts for a while. What fires is written down all the same."""
        now = self._clock()
        silence = Silence(
            silence_id=uuid4().hex[:12],
            rule=rule,
            route=route,
            model_tier=model_tier,
            starts_ns=now,
            ends_ns=now + minutes * MINUTE_NS,
            comment=comment,
        )
        self.ledger.silence(silence)
        self.poke()
        return silence

    def end_silence(self, silence_id: str) -> bool:
        """Ends a silence; whether there was one."""
        ended = self.ledger.end_silence(silence_id, self._clock())
        self.poke()
        return ended

    def test(self) -> list[Delivery]:
        """Sends every receiver a message that says it is a test; the deliveries, by which it can be seen how they went."""
        now = self._clock()
        name = uuid4().hex[:16]
        alert = Alert(
            alert_id=name,
            incident_id=name,
            rule=TEST,
            severity="ticket",
            scope="all",
            state="resolved",
            since_ns=now - MINUTE_NS,
            fired_ns=now,
            resolved_ns=now,
            why_resolved="recovered",
            window_minutes=1,
            threshold=0.0,
            summary="This is a test of Lastword's alerts. Nothing is wrong.",
        )
        event = event_of("test", alert, now)
        sent = addressed([event], self.receivers, [], set(), now)
        self.ledger.record([alert], [event], sent, None)
        self.poke()
        return sent


def _check_address(name: str, url: str) -> None:
    """Raises SettingsError where a receiver's address cannot be one. It may hold a secret, and is not repeated."""
    try:
        parts = urlsplit(url)
        usable = not url or (parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0)
    except ValueError:  # a port or an address that is none
        usable = False
    if not usable:
        raise SettingsError(f"LASTWORD_COLLECTOR_ALERTS_{name.upper()}_URL is no address of http or https")


def _addresses(wanted: Wanted) -> dict[str, str]:
    return {"webhook": wanted.webhook_url, "slack": wanted.slack_url, "alertmanager": wanted.alertmanager_url}


class _Gauges(Source):
    """What was judged last, read whenever /metrics is."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator = evaluator

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges."""
        labels = ["rule", "scope", "route", "model_tier"]
        evidence = GaugeMetricFamily("lastword_alert_evidence", "Evidence of a series, in nats.", labels=labels)
        limit = GaugeMetricFamily("lastword_alert_threshold", "Evidence that fires, in nats.", labels=labels)
        firing = GaugeMetricFamily("lastword_alert_firing", "1 while an alert fires on the series.", labels=labels)
        for one in self._evaluator.judged:
            values = [one.rule, one.scope, one.route or "", one.model_tier or ""]
            if one.evidence is not None and one.threshold is not None:
                evidence.add_metric(values, one.evidence)
                limit.add_metric(values, one.threshold)
            firing.add_metric(values, float(one.state == "firing"))
        yield from (evidence, limit, firing)
        for name, text, value in (
            ("judged_timestamp_seconds", "End of the last minute that was judged.", self._evaluator.judged_at_s),
            ("judge_seconds", "How long the last minute took to judge.", self._evaluator.seconds),
            ("judge_failures", "Minutes that could not be judged at once, since the start.", float(self._evaluator.failures)),
        ):
            yield GaugeMetricFamily(f"lastword_alerts_{name}", text, value=value)
