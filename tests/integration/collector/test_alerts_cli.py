"""`lastword alerts` as a user runs it: on a collector that has just found an incident, and on its catalog."""

import contextlib
import json
import sys
import time

import httpx2
import pytest

from collector.alerts.__main__ import main
from tests.integration.collector.alerting import CUT, Inbox, history
from tests.integration.collector.conftest import start
from tests.integration.collector.process import Program
from tests.integration.collector.turns import minute_of_turns, store
from tests.support.product import captured, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
RULE = """
[[rule]]
name = "partials"
sql = "select route, count(*) filter (\\"partial\\") as value from turns where ended_at >= $start and ended_at < $end group by route"
threshold = 20
window_minutes = 5
"""


@pytest.fixture(scope="module")
def firing(tmp_path_factory):
    """A collector in an incident of ten minutes, somebody who is told, and the folder of its data."""
    folder = tmp_path_factory.mktemp("alerts")
    client, parts = start(folder, commit_wait_ms=1, alerts=False)
    with client:
        now = int(time.time()) // 60
        history(parts, now - 10)
        for minute in range(now - 10, now + 1):
            store(parts, minute_of_turns(minute, rates=CUT))
    with contextlib.closing(Inbox()) as inbox:
        program = Program(folder, LASTWORD_COLLECTOR_ALERTS_WEBHOOK_URL=inbox.url, LASTWORD_COLLECTOR_ALERTS_SETTLE_S="1")
        program.start()
        wait_for(
            lambda: program.rows("select 1 from alerts where role = 'root' and severity = 'page'"), 90, "the incident fires"
        )
        yield program, inbox, folder
        program.stop()


def run(*arguments):
    return captured([sys.executable, "-m", "lastword.cli.main", "alerts", *arguments], timeout_s=120)


def test_list_and_show_tell_what_fires_and_why(firing):
    """The list has the incident; the first letters of its id show it whole, as text and as JSON."""
    program, _, _ = firing
    listed = run("list", "--url", program.url)
    assert listed.returncode == 0, listed.stderr
    assert "route docs" in listed.stdout
    root = next(
        one
        for one in json.loads(run("list", "--firing", "--json", "--url", program.url).stdout)
        if one["role"] == "root" and one["severity"] == "page"
    )
    shown = run("show", root["alert_id"][:6], "--url", program.url)
    assert shown.returncode == 0, shown.stderr
    assert all(word in shown.stdout for word in ("route docs", "provider_truncated", "traces", "events", "deliveries"))
    whole = json.loads(run("show", root["alert_id"], "--json", "--url", program.url).stdout)
    assert [event["change"] for event in whole["events"]] == ["fired"]
    assert whole["explanation"]["reasons"][0]["reason"] == "provider_truncated"


def test_wrong_words_are_answered_with_a_sentence(firing):
    """An id that is none, a time that is none, a silence that is none, nobody there."""
    program, _, _ = firing
    assert "no alert begins with 'zzz'" in run("show", "zzz", "--url", program.url).stderr
    assert "such as 30m" in run("silence", "--for", "soon", "--url", program.url).stderr
    for option in ("--end", "--rule", "--route", "--tier"):
        refused = run("silence", option, " ", "--url", program.url)
        assert (refused.returncode, f"{option}: is empty" in refused.stderr) == (2, True)
    assert run("silence", "--end", "a/b?c", "--url", program.url).returncode != 0
    assert run("silence", "--list", "--url", program.url).stdout.strip() == "no silence holds"
    assert "a number of days" in run("replay", "--days", "nan").stderr
    assert "no silence nope holds now" in run("silence", "--end", "nope", "--url", program.url).stderr
    nobody = run("list", "--url", "http://127.0.0.1:9")
    assert nobody.returncode == 2
    assert "Is the product running?" in nobody.stderr


def test_a_test_reaches_the_receiver(firing):
    """Who took it is said, and the message says that nothing is wrong."""
    program, inbox, _ = firing
    tested = run("test", "--url", program.url)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "delivered" in tested.stdout
    assert "alert.test" in {message["type"] for message in inbox.messages()}


def test_a_silence_is_made_listed_and_ended(firing):
    """Its id ends it."""
    program, _, _ = firing
    made = run("silence", "--route", "docs", "--for", "30m", "--comment", "known", "--url", program.url)
    assert made.returncode == 0, made.stderr
    silence_id = made.stdout.strip().rsplit(" ", 1)[1]
    assert "known" in run("silence", "--list", "--url", program.url).stdout
    assert run("silence", "--end", silence_id, "--url", program.url).returncode == 0
    assert run("silence", "--list", "--url", program.url).stdout.strip() == "no silence holds"


def test_replay_finds_on_the_catalog_what_the_collector_found(firing):
    """The same route as root, from the stored minutes alone; also from a file of minutes."""
    program, _, folder = firing
    replayed = run("replay", "--days", "0.02", "--data-dir", str(folder), "--json")
    assert replayed.returncode == 0, replayed.stderr
    roots = [one for one in json.loads(replayed.stdout) if one["role"] == "root" and one["severity"] == "page"]
    assert [one["route"] for one in roots] == ["docs"]
    path = folder / "minutes.parquet"
    query = {
        "sql": "select minute, route, tier, sum(n)::bigint as n, sum(broken)::bigint as broken from turn_minutes group by all",
        "format": "parquet",
        "maxRows": 1_000_000,
    }
    path.write_bytes(httpx2.post(f"{program.url}/v1/sql", json=query, trust_env=False, timeout=60).content)
    from_file = run("replay", "--days", "0.02", "--source", str(path), "--json")
    assert from_file.returncode == 0, from_file.stderr
    assert [one["route"] for one in json.loads(from_file.stdout) if one["role"] == "root"] == ["docs"]


def test_check_runs_rules_on_stored_turns(firing, tmp_path):
    """What would have fired is listed; a rule that is wrong is named."""
    _, _, folder = firing
    path = tmp_path / "rules.toml"
    path.write_text(RULE, encoding="utf-8")
    checked = run("check", str(path), "--days", "0.02", "--data-dir", str(folder))
    assert checked.returncode == 0, checked.stderr
    assert "(route docs)" in checked.stdout
    path.write_text(RULE.replace("value", "valu"), encoding="utf-8")
    wrong = run("check", str(path), "--data-dir", str(folder))
    assert wrong.returncode == 1
    assert "no column named value" in wrong.stderr
    assert run("replay", "--data-dir", str(tmp_path)).returncode == 2


@pytest.mark.parametrize(
    "row", ["2026-01-01,-1,0", "2026-01-01,5,6", "2026-01-01,5,-1", "2500-01-01,5,1", ",5,1", "2026-01-01,,1"]
)
def test_minutes_that_cannot_be_are_refused(tmp_path, row):
    """The sentence shows the row."""
    path = tmp_path / "minutes.csv"
    path.write_text(f"minute,n,broken\n2026-01-01T00:01:00Z,5,1\n{row}\n", encoding="utf-8")
    refused = run("replay", "--source", str(path))
    assert refused.returncode == 2
    assert "counts lie between 0 and n" in refused.stderr


def test_rules_are_checked_where_nothing_is_stored_yet(tmp_path, capsys, monkeypatch):
    """They can be used, and that is said."""
    rules, empty = tmp_path / "rules.toml", tmp_path / "minutes.csv"
    rules.write_text(
        "[[rule]]\nname = 'x'\nsql = 'select sum(n) as value from turn_minutes'\nthreshold = 1\n", encoding="utf-8"
    )
    empty.write_text("minute,n,broken\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["alerts", "check", str(empty), "--rules", str(rules)])
    assert main() == 0
    assert "can be used" in capsys.readouterr().err
