"""Alerts of a collector: an incident from its first broken turns to the last message about it, on a clock that is set by hand."""

import base64
import contextlib
import hashlib
import hmac
from unittest.mock import Mock

import duckdb
import pytest

from collector.alerts import evaluator as evaluator_module
from collector.alerts.rules import RulesError
from collector.store.store import StoreError
from tests.integration.collector.alerting import CALM, CUT, Inbox, World, history
from tests.integration.collector.conftest import Collector, start
from tests.integration.collector.turns import minute_of_turns, store

START = 29_500_000
"""The first minute of these tests, since 1970."""
SECRET = "whsec_" + base64.b64encode(b"a secret of the tests").decode()


@pytest.fixture
def inbox():
    inbox = Inbox()
    yield inbox
    inbox.close()


@pytest.fixture
def calm(tmp_path):
    """A collector with a day of calm turns."""
    client, parts = start(tmp_path, commit_wait_ms=1, alerts=False)
    with client:
        history(parts, START)
        yield Collector(client, parts)


@pytest.fixture
def live():
    """Makes worlds, which end with the test."""
    with contextlib.ExitStack() as worlds:
        yield lambda *args, **wanted: worlds.enter_context(contextlib.closing(World(*args, **wanted)))


def test_an_incident_of_one_route_is_one_page_that_names_it_and_ends(calm, inbox, live):
    """The route pages, what overlaps it is a symptom; the message explains and links, and the end is told."""
    world = live(calm, webhook_url=inbox.url, webhook_secrets=SECRET, slack_url=inbox.url)
    world.live(START, START + 4, CALM)
    assert world.rows("select count(*) from alerts") == [[0]]
    world.live(START + 5, START + 19, CUT, only_version="2")
    world.live(START + 20, START + 35, CALM)

    roots = world.rows(
        "select rule, scope, route, state, why_resolved, fired_at, resolved_at from alerts where role = 'root' and severity = 'page'"
    )
    assert [row[:5] for row in roots] == [["partial_rate", "route", "docs", "resolved", "recovered"]]
    ((fired, resolved),) = world.rows(
        "select epoch_us(fired_at) // 60000000, epoch_us(resolved_at) // 60000000 from alerts where role = 'root' and severity = 'page'"
    )
    assert START + 5 < fired <= START + 10
    assert START + 20 < resolved <= START + 28

    pages = [one for one in inbox.messages() if one.get("data", {}).get("role") == "root" and one["data"]["severity"] == "page"]
    assert [one["type"] for one in pages] == ["alert.fired", "alert.resolved"]
    data = pages[0]["data"]
    assert data["slices"][0]["attributes"] == {"service_version": "2"}
    assert data["reasons"][0]["reason"] == "provider_truncated"
    assert len(data["traces"]) == 3
    assert data["link"].startswith("http://127.0.0.1:8501/partials?window=custom&from=")
    assert data["link"].endswith("&route=docs")
    chats = [one for one in inbox.messages() if "attachments" in one]
    assert [one["text"].split()[0] for one in chats if "partial" not in one["text"][:8]].count("[page]") == 1
    states = {row[0] for row in world.rows("select distinct state from alert_deliveries")}
    assert states == {"delivered"}


def test_a_webhook_is_signed_by_every_secret_and_keeps_its_id_over_tries(calm, inbox, live):
    """A receiver can check where a message came from, and tell a repetition from news."""
    other = "whsec_" + base64.b64encode(b"the next one").decode()
    world = live(calm, webhook_url=inbox.url, webhook_secrets=f"{SECRET},{other}")
    inbox.refuse = 1
    (delivery,) = world.alerts.test()
    world.alerts.couriers[0].round()
    assert inbox.got == []
    assert world.rows("select state, attempts, error like 'HTTP 503%' from alert_deliveries") == [["waiting", 1, True]]
    world.clock.ns += 3_000_000_000
    world.alerts.couriers[0].round()
    ((headers, body),) = inbox.got
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["webhook-id"] == delivery.delivery_id
    signed = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), body))
    expected = [
        "v1," + base64.b64encode(hmac.new(base64.b64decode(secret[6:]), signed, hashlib.sha256).digest()).decode()
        for secret in (SECRET, other)
    ]
    assert headers["webhook-signature"].split() == expected
    assert world.rows("select state, attempts from alert_deliveries") == [["delivered", 2]]


def test_a_restart_in_an_incident_goes_on_with_the_same_episode(calm, inbox, live):
    """What fired stays, fires no second time, and is resolved by the process that comes after."""
    world = live(calm, webhook_url=inbox.url)
    world.live(START, START + 4, CALM)
    world.live(START + 5, START + 12, CUT)
    before = world.rows("select alert_id, fired_at, state from alerts order by 1")
    assert before
    world.restart()
    world.live(START + 13, START + 19, CUT)
    firing = world.rows(
        "select alert_id, fired_at, state from alerts where fired_at <= make_timestamptz(?) order by 1",
        (START + 13) * 60_000_000,
    )
    assert firing == before
    world.restart()
    world.live(START + 20, START + 35, CALM)
    assert world.rows("select count(*) from alerts where role = 'root' and severity = 'page'") == [[1]]
    assert world.rows("select distinct state from alerts where rule = 'partial_rate'") == [["resolved"]]
    pages = [one["type"] for one in inbox.messages() if one["data"]["role"] == "root" and one["data"]["severity"] == "page"]
    assert pages == ["alert.fired", "alert.resolved"]


def test_an_alert_that_waits_to_be_written_is_the_same_one_though_the_next_minute_fails(calm, inbox, live, monkeypatch):
    """The disk is full when it fires, and then a query fails so that everything is made anew from the store: one page all the same, which ends."""
    world = live(calm, webhook_url=inbox.url)
    world.live(START, START + 4, CALM)
    evaluator = world.alerts.evaluator

    def fails(minute, owner, name, error):
        store(world.parts, minute_of_turns(minute, rates=CUT))
        world.clock.at(minute)
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, Mock(side_effect=error))
            assert not evaluator.tick()

    for minute in range(START + 5, START + 11):
        fails(minute, evaluator._ledger, "record", StoreError("no space left"))
    assert world.rows("select count(*) from alerts") == [[0]]
    fails(START + 11, evaluator_module, "read_minutes", duckdb.Error("lost"))
    world.live(START + 12, START + 19, CUT)
    world.live(START + 20, START + 35, CALM)
    assert world.rows("select state from alerts where role = 'root' and severity = 'page'") == [["resolved"]]
    pages = [one["type"] for one in inbox.messages() if one["data"]["role"] == "root" and one["data"]["severity"] == "page"]
    assert pages == ["alert.fired", "alert.resolved"]


def test_minutes_that_passed_while_nobody_judged_are_judged_later(calm, live):
    """An incident that began while the collector was away is found, at the minute in which it would have been."""
    world = live(calm)
    world.live(START, START + 4, CALM)
    for minute in range(START + 5, START + 20):
        store(world.parts, minute_of_turns(minute, rates=CUT))
    world.restart()
    world.judge(START + 19)
    ((fired,),) = world.rows("select epoch_us(fired_at) // 60000000 from alerts where role = 'root' and severity = 'page'")
    assert START + 5 < fired <= START + 10


def test_people_who_leave_are_a_ticket_and_no_page(calm, live):
    """A rise of readers that leave is a series of its own."""
    world = live(calm)
    world.live(START, START + 4, CALM)
    world.live(START + 5, START + 30, CALM, left=0.9)
    assert world.rows("select distinct rule, severity from alerts") == [["client_left", "ticket"]]


def test_a_silence_keeps_messages_back_until_it_ends(calm, inbox, live):
    """What fires in a silence is written down, and not told; what still fires when it ends is told then."""
    world = live(calm, webhook_url=inbox.url)
    world.live(START, START + 4, CALM)
    silence = world.alerts.silence(rule=None, route="docs", model_tier=None, minutes=60, comment="known")
    world.live(START + 5, START + 14, CUT)
    states = "select distinct d.state from alert_deliveries d join alerts a using (alert_id) where a.route = 'docs'"
    assert world.rows(states) == [["silenced"]]
    assert world.alerts.end_silence(silence.silence_id)
    assert not world.alerts.end_silence(silence.silence_id)
    world.live(START + 15, START + 15, CUT)
    assert "silenced" not in {state for (state,) in world.rows(states)}


def test_rules_of_users_fire_by_their_rows_and_end(calm, tmp_path, live):
    """Each row that crosses the threshold is an alert with its labels; a row that does so no more ends it."""
    path = tmp_path / "rules.toml"
    path.write_text(
        """
[[rule]]
name = "many_partials"
description = "Partial turns of a route"
sql = "select route, count(*) filter (\\"partial\\") as value from turns where ended_at >= $start and ended_at < $end group by route"
threshold = 30
window_minutes = 5
severity = "page"
labels = { team = "answers" }
""",
        encoding="utf-8",
    )
    world = live(calm, rules_file=str(path))
    world.live(START, START + 1, CALM)
    world.live(START + 2, START + 6, CUT)
    world.live(START + 7, START + 13, CALM)
    got = world.rows("select route, labels->>'team', severity, state, value >= 30 from alerts where rule = 'many_partials'")
    assert got == [["docs", "answers", "page", "resolved", True]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[[rule]]\nname = 'x'\nsql = 'select 1 as v'\nthreshold = 1", "no column named value"),
        ("[[rule]]\nname = 'x'\nsql = 'drop table turns'\nthreshold = 1", "Only queries are allowed"),
        ("[[rule]]\nname = 'x'\nsql = 'select 1 as value'", "threshold"),
        ("[[rule]]\nname = 'x'\nsql = 'select n as value from nowhere'\nthreshold = 1", "nowhere"),
        ("[[rule]]\nname = 'no_data'\nsql = 'select 1 as value'\nthreshold = 1", "taken"),
        ("[[rule]]\nname = 'x'\nsql = 'select 1 as value'\nthreshold = 1\nseverty = 'page'", "severty"),
        ("[[rule]", "rules.toml"),
    ],
)
def test_a_rule_that_is_wrong_is_said_at_the_start(collector, tmp_path, text, said, live):
    """The message names what is wrong, and the collector does not start on half of its rules."""
    path = tmp_path / "rules.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RulesError, match=said):
        live(collector, rules_file=str(path))


def test_every_series_is_shown_with_what_it_would_take_to_see_it(calm, live):
    """The blind spots are told: the smallest multiple that would fire, larger within a quarter of an hour than within an hour."""
    world = live(calm)
    world.live(START, START + 3, CALM)
    series = world.rows(
        "select scope, route, model_tier, state, visible_15, visible_60 from alert_series where rule = 'partial_rate' order by all"
    )
    assert [row[:4] for row in series] == [
        ["all", None, None, "ok"],
        ["route", "chat", None, "ok"],
        ["route", "docs", None, "ok"],
        ["tier", None, "fast", "ok"],
        ["tier", None, "smart", "ok"],
        ["route_tier", "docs", "smart", "ok"],
    ] or [row[0] for row in series] == ["all", "route", "route", "route_tier", "tier", "tier"]
    assert all(row[5] <= row[4] for row in series if row[4] is not None)
    assert series[0][5] is not None


def test_a_rule_that_fails_or_is_gone_stops_nothing_else(calm, tmp_path, live):
    """A query that breaks on its data is an error of its rule alone; and where a rule is taken away, what it fired ends."""
    path = tmp_path / "rules.toml"
    path.write_text(
        "[[rule]]\nname = 'breaks'\nsql = \"select cast('x' || count(*) as int) as value from turns\"\nthreshold = 1\n"
        "[[rule]]\nname = 'holds'\nsql = 'select 5 as value'\nthreshold = 1\n",
        encoding="utf-8",
    )
    world = live(calm, START, rules_file=str(path))
    world.live(START, START + 1, CALM)
    states = dict(world.rows("select rule, state from alert_series where scope = 'query'"))
    assert states == {"breaks": "error", "holds": "firing"}
    assert world.alerts.evaluator.alive
    path.write_text("", encoding="utf-8")
    world.restart()
    world.live(START + 2, START + 2, CALM)
    assert world.rows("select rule, state, why_resolved from alerts") == [["holds", "resolved", "removed"]]


def test_a_rule_is_looked_at_after_the_pages_of_its_minute_are_written(calm, tmp_path, live):
    """A slow rule does not keep a page back: it can see it."""
    path = tmp_path / "rules.toml"
    path.write_text(
        "[[rule]]\nname = 'paged'\nsql = \"select count(*) as value from alerts where severity = 'page'\"\nthreshold = 1\n",
        encoding="utf-8",
    )
    world = live(calm, rules_file=str(path))
    world.live(START, START + 1, CALM)
    world.live(START + 2, START + 10, CUT)
    page, rule = (
        world.rows(f"select min(fired_at) from alerts where {which}")[0] for which in ("severity = 'page'", "rule = 'paged'")
    )
    assert page == rule != [None]


def test_a_page_of_a_browser_can_silence_nothing(collector):
    """Neither a form's content type nor a call that names an origin is taken."""
    body = {"minutes": 5}
    assert collector.http.post("/v1/alerts/silences", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    assert collector.http.post("/v1/alerts/silences", json=body, headers={"origin": "http://evil"}).status_code == 403
    assert collector.http.post("/v1/alerts/test", headers={"origin": "http://evil"}).status_code == 403
    assert collector.http.post("/v1/alerts/silences", json=body).status_code == 201
