"""Alerts with what stands around a collector: a real Alertmanager, Prometheus' own tool, and a kill in the middle of an incident."""

import contextlib
import shutil
import subprocess
import time

import pytest

from tests.integration.collector.alerting import CALM, CUT, Inbox, World, history
from tests.integration.collector.conftest import Collector, start
from tests.integration.collector.process import Program
from tests.integration.collector.turns import minute_of_turns, store
from tests.support.alertmanager import RealAlertmanager
from tests.support.product import ROOT, wait_for

pytestmark = pytest.mark.slow
RULES = ROOT / "collector" / "alerts" / "prometheus"


def this_minute():
    return int(time.time()) // 60


@pytest.mark.skipif(not RealAlertmanager.there(), reason="no prometheus-alertmanager: install Debian's package")
def test_alertmanager_shows_one_page_that_names_the_route_and_lets_it_go(tmp_path):
    """The symptoms are inhibited, the watchdog fires all the time, and a resolved alert is gone."""
    with RealAlertmanager(tmp_path / "am") as alertmanager:
        client, parts = start(tmp_path, commit_wait_ms=1, alerts=False)
        first = this_minute() - 31
        with client, contextlib.closing(World(Collector(client, parts), first, alertmanager_url=alertmanager.url)) as world:
            history(parts, first)
            world.live(first, first + 15, CALM)
            world.live(first + 16, first + 29, CUT)
            world.clock.ns = time.time_ns()
            world.alerts.couriers[0].round()
            active = wait_for(lambda: alertmanager.alerts("active"), 30, "the alert is active")
            pages = [one for one in active if one["labels"]["severity"] == "page"]
            assert [(one["labels"]["route"], one["labels"]["role"]) for one in pages] == [("docs", "root")]
            assert "route docs" in pages[0]["annotations"]["summary"]
            assert pages[0]["generatorURL"].startswith("http://127.0.0.1:8501/partials?")
            assert "LastwordWatchdog" in {one["labels"]["alertname"] for one in active}
            assert {one["labels"]["role"] for one in alertmanager.alerts("suppressed")} <= {"symptom"}
            assert world.rows("select distinct state from alert_deliveries") == [["delivered"]]

            # The fault ends: minutes pass quicker than Alertmanager's clock, which only looks at whether the end has come.
            world.live(first + 30, first + 45, CALM)
            world.clock.ns = time.time_ns() + 16 * 60 * 1_000_000_000
            world.alerts.couriers[0].round()
            assert world.rows("select distinct state from alerts where severity = 'page'") == [["resolved"]]


def test_a_restart_of_alertmanager_is_healed_by_the_next_round(tmp_path):
    """It forgets what fires, and hears it again within a minute."""
    if not RealAlertmanager.there():
        pytest.skip("no prometheus-alertmanager: install Debian's package")
    client, parts = start(tmp_path, commit_wait_ms=1, alerts=False)
    with client, contextlib.ExitStack() as ends:
        first = this_minute() - 12
        history(parts, first)
        with RealAlertmanager(tmp_path / "one") as alertmanager:
            port = alertmanager.port
            world = World(Collector(client, parts), first, alertmanager_url=alertmanager.url)
            ends.enter_context(contextlib.closing(world))
            world.live(first, first + 10, CUT)
        world.clock.ns = time.time_ns()
        assert world.alerts.couriers[0].round() <= 45  # nobody is there: it is tried again, and nothing is lost
        with RealAlertmanager(tmp_path / "two", port=port) as alertmanager:
            assert world.alerts.couriers[0].round() <= 50
            wait_for(lambda: alertmanager.alerts("active"), 30, "the alert is active again")


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool: install Debian's package prometheus")
def test_the_rules_for_prometheus_pass_their_own_tests():
    """Promtool reads the rules that we ship, and runs their tests."""
    for command in (["check", "rules", "lastword.rules.yml"], ["test", "rules", "lastword.rules.test.yml"]):
        done = subprocess.run(["promtool", *command], cwd=RULES, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_for_prometheus_name_metrics_that_exist(tmp_path):
    """Each metric that a rule reads stands on /metrics from the start."""
    client, _ = start(tmp_path, commit_wait_ms=1, alerts_webhook_url="http://127.0.0.1:9/", alerts_settle_s=600)
    with client:
        text = client.get("/metrics").text
    for name in (
        "lastword_turns_broken_total",
        "lastword_turns_total",
        "lastword_alert_firing",
        "lastword_alerts_judged_timestamp_seconds",
        "lastword_alerts_judge_failures",
        "lastword_store_failing",
        "lastword_alert_sends_total",
    ):
        assert name in (RULES / "lastword.rules.yml").read_text(encoding="utf-8")
        assert f"\n{name}" in text or f"# TYPE {name} " in text or f"# TYPE {name.removesuffix('_total')} " in text, name


@pytest.mark.timeout(240)
def test_a_kill_in_an_incident_loses_no_change_and_pages_once(tmp_path):
    """What fired and was not told when the process died is told by the next one; the episode goes on, and fires no second time."""
    client, parts = start(tmp_path, commit_wait_ms=1, alerts=False)
    with client:
        now = this_minute()
        history(parts, now - 10)
        for minute in range(now - 10, now + 1):
            store(parts, minute_of_turns(minute, rates=CUT))
    with contextlib.closing(Inbox()) as inbox:
        inbox.refuse = 1_000
        program = Program(tmp_path, LASTWORD_COLLECTOR_ALERTS_WEBHOOK_URL=inbox.url, LASTWORD_COLLECTOR_ALERTS_SETTLE_S="1")
        firing = "select alert_id, fired_at, state from alerts where role = 'root' and severity = 'page'"
        try:
            program.start()
            before = wait_for(lambda: program.rows(firing), 60, "the incident fires")
            wait_for(lambda: program.rows("select 1 from alert_deliveries where attempts > 0"), 30, "the message was tried")
            assert inbox.got == []
            program.kill()
            inbox.refuse = 0
            program.start()
            judged = "select max(minute) from alert_series"
            last = program.rows(judged)
            wait_for(lambda: program.rows(judged) > last, 130, "the next minute is judged", pause_s=1)
            assert program.rows(firing) == before
            waiting = "select count(*) from alert_deliveries where state <> 'delivered'"
            wait_for(lambda: program.rows(waiting) == [[0]], 60, "everything is told", pause_s=1)
            pages = [one for one in inbox.messages() if one["data"]["role"] == "root" and one["data"]["severity"] == "page"]
            assert [one["type"] for one in pages] == ["alert.fired"]
            events = {row[0] for row in program.rows("select event_id from alert_events")}
            told = {headers["webhook-id"] for headers, _ in inbox.got}
            assert told == {f"{event}-webhook" for event in events}
        finally:
            if program.process is not None and program.process.poll() is None:
                program.stop()
