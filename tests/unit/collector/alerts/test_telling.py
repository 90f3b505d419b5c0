"""What is said of an alert, to whom, and how often it is tried."""

import json
import random

import duckdb
import httpx2
import pytest
from prometheus_client import CollectorRegistry

from collector.alerts.alert import Alert, event_of, percent, wilson
from collector.alerts.alerts import Alerts, Wanted
from collector.alerts.conditions import Condition, changes
from collector.alerts.courier import LONGEST_WAIT_S, wait_s
from collector.alerts.explanation import _REASONS
from collector.alerts.ledger import Silence
from collector.alerts.messages import alertmanager, document, link, slack
from collector.alerts.receivers import Alertmanager, SecretUnusable, SendFailed, Slack, Webhook
from collector.alerts.rules import read_rules
from collector.alerts.visible import smallest_multiple
from lastword.errors import SettingsError
from tests.support.product import ROOT

MINUTE_NS = 60_000_000_000
AT = 1_700_000_000 // 60 * 60 * 1_000_000_000


def alert(**changed):
    """A page about a route."""
    values = {
        "alert_id": "a1",
        "incident_id": "a1",
        "rule": "partial_rate",
        "severity": "page",
        "scope": "route",
        "route": "docs",
        "since_ns": AT,
        "fired_ns": AT + 3 * MINUTE_NS,
        "window_minutes": 3,
        "turns": 60,
        "broken": 30,
        "expected": 1.2,
        "rate": 0.5,
        "threshold": 6.0,
        "summary": "route docs: 50% broken",
    }
    return Alert(**(values | changed))


def answering(status, seen):
    """A client whose every request is noted and answered so."""

    def handle(request):
        seen.append(request)
        return httpx2.Response(status(request) if callable(status) else status, text="because")

    return httpx2.Client(transport=httpx2.MockTransport(handle))


def test_the_link_shows_what_was_before_the_episode():
    """Half an hour before it, in the parameters of the dashboard's filters."""
    assert link(alert(model_tier="smart"), "http://d:1/") == (
        "http://d:1/partials?window=custom&from=2023-11-14T21%3A43%3A00Z&to=2023-11-14T22%3A31%3A00Z&route=docs&tier=smart"
    )
    assert link(alert(), "") is None


def test_an_alert_of_the_whole_links_to_the_slice_that_holds_it():
    """Where most of the broken turns lie in one route, that is where to look."""
    explained = {"slices": [{"attributes": {"route": "chat"}, "broken": 28}]}
    whole = alert(scope="all", route=None, explanation=explained)
    assert "route=chat" in link(whole, "http://d")
    spread = alert(scope="all", route=None, explanation={"slices": [{"attributes": {"route": "chat"}, "broken": 9}]})
    assert "route=" not in link(spread, "http://d")


def test_messages_say_what_stands_out():
    """Slices, reasons, traces and the link, in every shape; and a symptom's labels differ in role alone."""
    explanation = {
        "slices": [{"attributes": {"tool": "search"}, "rate": 0.5, "broken": 3, "turns": 6, "usual": 0.02}],
        "reasons": [{"reason": "provider_error", "broken": 3, "expected": 0.1}],
        "traces": [{"turn_id": "t", "trace_id": "f" * 32}],
    }
    one = alert(explanation=explanation, link="http://d/partials")
    message = document(event_of("fired", one, AT))
    assert json.loads(json.dumps(message))["data"]["route"] == "docs"
    chat = slack(message)
    assert chat["text"] == "[page] route docs: 50% broken"
    text = chat["attachments"][0]["text"]
    assert all(word in text for word in ("tool search 50% (3 of 6", "provider_error 3", "f" * 32))
    assert chat["attachments"][0]["title_link"] == "http://d/partials"
    told = alertmanager(one, ends_ns=AT + MINUTE_NS, link=one.link)
    assert told["labels"] == {
        "alertname": "LastwordPartialRate",
        "service": "lastword",
        "severity": "page",
        "incident": "a1",
        "role": "root",
        "scope": "route",
        "route": "docs",
    }
    assert told["startsAt"] == "2023-11-14T22:13:00.000000Z"


def test_labels_of_a_rule_are_labels_that_alertmanager_takes():
    """A dot becomes a line, and a rule cannot take the names that routing rests on."""
    labels = alertmanager(alert(labels={"team.name": "x", "severity": "none"}), ends_ns=AT, link=None)["labels"]
    assert labels["team_name"] == "x"
    assert alertmanager(alert(labels={"95th": "1"}), ends_ns=AT, link=None)["labels"]["_95th"] == "1"
    assert labels["severity"] == "page"


def test_a_batch_that_is_refused_is_told_one_by_one():
    """What Alertmanager does not understand keeps nothing else from it."""
    seen = []
    http = answering(lambda request: 400 if b"bad" in request.content else 200, seen)
    good, bad = alertmanager(alert(), ends_ns=AT, link=None), alertmanager(alert(route="bad"), ends_ns=AT, link=None)
    refused = Alertmanager(http, "http://am").tell([good, bad])
    assert list(refused) == [1]
    assert refused[1].startswith("HTTP 400")
    assert [len(json.loads(request.content)) for request in seen] == [2, 1, 1]
    Alertmanager(http, "http://am/").tell([good])
    assert str(seen[-1].url) == "http://am/api/v2/alerts"


def test_a_receiver_that_is_gone_is_told_no_more():
    """410 is final; anything else is tried again."""
    for status, final in ((410, True), (500, False), (302, False)):
        with pytest.raises(SendFailed) as failed:
            Slack(answering(status, []), "http://s").send("d", document(event_of("fired", alert(), AT)))
        assert failed.value.final is final


def test_a_secret_that_is_none_is_refused_without_being_shown():
    """The message tells which one, and not what stands in it."""
    with pytest.raises(SecretUnusable) as refused:
        Webhook(answering(200, []), "http://w", ["whsec_?!"])
    assert "?!" not in str(refused.value)


def test_waits_grow_and_stay_bounded():
    """Twice as long each time, with jitter, up to five minutes."""
    dice = random.Random(1)
    waits = [wait_s(tries, dice) for tries in range(1, 30)]
    assert 1.6 <= waits[0] <= 2.4
    assert 3.2 <= waits[1] <= 4.8
    assert max(waits) <= LONGEST_WAIT_S * 1.2


def test_a_silence_covers_what_it_names():
    """A field that is left out stands for every value, and the end is not part of it."""
    silence = Silence(silence_id="s", route="docs", starts_ns=10, ends_ns=20)
    assert silence.covers(alert(), 10)
    assert not silence.covers(alert(), 20)
    assert not silence.covers(alert(route="chat"), 15)
    assert Silence(silence_id="s", starts_ns=10, ends_ns=20).covers(alert(route=None), 15)


def test_conditions_fire_once_and_end():
    """One that holds on is the same alert; one of a rule that was not looked at does not end."""
    firing = {}
    held = Condition(rule="r", severity="ticket", labels={"a": "1"}, value=2, threshold=1, window_minutes=5, summary="s")
    (one,), (event,) = changes([held], firing, ["r"], 100)
    assert (event.change, one.fired_ns) == ("fired", 101 * MINUTE_NS)
    assert changes([held], firing, ["r"], 101) == ([], [])
    assert changes([], firing, ["another"], 102) == ([], [])
    (ended,), _ = changes([], firing, ["r"], 103)
    assert (ended.alert_id, ended.state, ended.resolved_ns) == (one.alert_id, "resolved", 104 * MINUTE_NS)


def test_what_can_be_seen_grows_with_traffic_and_time():
    """A busy series shows a small rise; a quiet one shows none within a quarter of an hour."""
    busy, quiet = (smallest_multiple(rate, 0.02, {}, 6.0, 60) for rate in (1200, 12))
    assert 1.1 < busy < quiet < 10
    assert smallest_multiple(0.01, 0.02, {}, 6.0, 15) is None


def test_rates_and_intervals_read_well():
    """Wilson's interval holds the rate, and a percentage has as many digits as it needs."""
    low, high = wilson(30, 60)
    assert (round(low, 3), round(high, 3)) == (0.377, 0.623)
    assert [percent(rate) for rate in (0.5, 0.031, 0.0012)] == ["50%", "3.1%", "0.12%"]


def test_the_example_of_the_docs_is_a_rule(tmp_path):
    """The TOML that docs/alerts.md shows can be read."""
    text = (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8")
    path = tmp_path / "rules.toml"
    path.write_text(text.split("```toml\n")[1].split("```")[0], encoding="utf-8")
    assert [rule.name for rule in read_rules(path)] == ["slow_first_token"]


def test_names_from_spans_are_no_mentions_in_a_chat():
    """Whoever sends spans chooses routes: what a chat would take for a link or a mention is shown as it is."""
    chat = slack(document(event_of("fired", alert(summary="route <!channel> & <https://x|y>: 50% broken"), AT)))
    assert "<" not in chat["text"]
    assert "&lt;!channel&gt; &amp; " in chat["text"]


@pytest.mark.parametrize("url", ["ftp://x", "http://[::1", "nowhere", "http://h:99999"])
def test_an_address_that_is_none_is_refused_at_the_start_without_being_shown(url):
    """The setting is named, and not what stands in it."""
    with pytest.raises(SettingsError, match="LASTWORD_COLLECTOR_ALERTS_SLACK_URL") as refused:
        Alerts(None, None, CollectorRegistry(), Wanted(objective=0.95, slack_url=url))
    assert url not in str(refused.value)


def test_what_is_usual_is_reckoned_over_the_time_that_has_turns():
    """Two hours of turns before an episode of ten minutes, one in ten minutes broken: one is usual, and not a twelfth of it."""
    minute = 60_000_000
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE turns AS SELECT make_timestamptz(minute * $minute) AS ended_at, 'docs' AS route, 'smart' AS model_tier, "
            "'provider_error' AS reason, 'interrupted' AS completion_status, 'done' AS terminal, minute % 10 = 9 OR minute >= 2000 AS broken "
            "FROM range(1880, 2010) AS minutes (minute)",
            {"minute": minute},
        )
        values = {
            "since_us": 2000 * minute,
            "until_us": 2010 * minute,
            "before_us": 1440 * minute,
            "route": "docs",
            "tier": None,
        }
        assert connection.execute(_REASONS.format(kind="broken"), values).fetchall() == [("provider_error", 10, 1.0)]
        connection.execute("DELETE FROM turns WHERE ended_at < make_timestamptz($since_us)", {"since_us": values["since_us"]})
        assert connection.execute(_REASONS.format(kind="broken"), values).fetchall() == [("provider_error", 10, 0.0)]
