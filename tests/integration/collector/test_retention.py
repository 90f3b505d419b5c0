"""Retention in a collector: what is overdue is gone, live and in the catalog, and the disk has its bytes back; everything else reads as before."""

import threading
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from collector.store.publisher import GRACE
from collector.synthetic.requests import record_request, span_request
from collector.synthetic.turns import synthesize
from lastword.events import TurnContent
from tests.integration.collector.conftest import Collector, start
from tests.support.otlp import accepted, ended, log_request, spans
from tests.support.product import wait_for

NEVER_MS = 3_600_000
NOW = datetime.now(UTC)


@pytest.fixture
def collector(tmp_path):
    """A collector that publishes only when a test says so, and keeps spans 7 days, turns 30, content 2, rollups 90."""
    days = {"spans_days": 7, "turns_days": 30, "rollups_days": 90, "content_days": 2}
    client, parts = start(tmp_path, commit_wait_ms=1, publish_ms=NEVER_MS, **days)
    with client:
        yield Collector(client, parts)


def send(collector, days_ago, count=40):
    """Turns with their spans over an hour, so many days ago. Published at once."""
    turns = list(synthesize(count, seed=days_ago, end=NOW - timedelta(days=days_ago), hours=1))
    assert collector.send("logs", record_request(turns)).status_code == 200
    assert collector.send("traces", span_request(turns)).status_code == 200
    collector.parts.publisher._publish()
    assert collector.parts.store.hot_rows == 0


def ages(read):
    """Which days ago have rows, by table."""
    day = "date_diff('day', {}, now()) // 10 * 10"
    times = {"spans": "started_at", "turns": "ended_at", "turn_minutes": "minute", "stage_minutes": "minute"}
    return {name: sorted(row[0] for row in read(f"select distinct {day.format(at)} from {name}")) for name, at in times.items()}


def test_overdue_rows_are_gone_and_the_disk_has_their_bytes(collector):
    """Spans, turns and rollups go each by its own days; the rollups of turns that are gone still stand. Files stay for the grace of readers, then they are unlinked."""
    for days_ago in (0, 20, 50, 100):
        send(collector, days_ago)
    folder = collector.parts.store.folder
    before = folder.size()
    wanted = {"spans": [0], "turns": [0, 20], "turn_minutes": [0, 20, 50], "stage_minutes": [0, 20, 50]}
    assert collector.parts.publisher.round()
    assert ages(collector.rows) == wanted
    with duckdb.connect(str(collector.parts.settings.store_path / "catalog.duckdb"), read_only=True) as catalog:
        assert ages(lambda sql: catalog.execute(sql).fetchall()) == wanted
    assert "lastword_pruned_rows 0.0" not in collector.http.get("/metrics").text
    assert folder.size() >= before
    collector.parts.publisher._clock = lambda: datetime.now(UTC) + GRACE + timedelta(seconds=1)
    assert collector.parts.publisher.round()
    assert folder.size() < 0.7 * before
    recorded = {segment.file for segment, _ in collector.parts.store.segments()}
    assert {path.name for path in folder.path.iterdir() if "-empty" not in path.name} == recorded


def test_segment_that_is_partly_overdue_loses_the_overdue_rows_alone(collector):
    """One segment of spans of 20 days and of today is rewritten with those of today."""
    for days_ago in (20, 0):
        turns = list(synthesize(20, seed=days_ago, end=NOW - timedelta(days=days_ago), hours=1))
        collector.send("traces", span_request(turns))
    (fresh,) = collector.rows("select count(*) from spans where started_at > now() - interval 1 day")
    assert collector.parts.publisher.round()
    assert collector.rows("select count(*), count(distinct span_id) from spans") == [fresh * 2]
    assert collector.parts.publisher.pruned.rows > 100


def test_turns_that_never_ended_are_forgotten_with_the_turns(collector):
    """An acceptance without terminal is a lost turn until turns of its age are removed."""
    old, young = NOW - timedelta(days=40), NOW - timedelta(days=20)
    collector.send("logs", log_request(accepted("old", started_at=old), accepted("young", started_at=young)))
    assert collector.rows("select turn_id from lost_turns order by 1") == [["old"], ["young"]]
    collector.parts.publisher.round()
    assert collector.rows("select turn_id from lost_turns") == [["young"]]


def test_content_is_apart_from_turns_and_bounded(tmp_path):
    """Prompts and answers go by their own days while their turns stay; one that is too long is kept cut, and none of their text stands in the record."""
    client, parts = start(tmp_path, commit_wait_ms=1, publish_ms=NEVER_MS, content_days=2, max_content_chars=50)
    with client:
        collector = Collector(client, parts)
        secret = TurnContent(prompt="p" * 60, answer="the secret " * 10)
        collector.send("logs", log_request(ended("t1", content=secret, answer="the secret")))
        assert collector.rows("select length(prompt), length(answer) from turn_content") == [[50, 50]]
        assert collector.rows("select count(*) from turns where record like '%secret%'") == [[0]]
        parts.publisher.round()
        assert collector.rows("select count(*) from turn_content") == [[0]]
        assert collector.rows("select count(*) from turns") == [[1]]


def test_spans_are_taken_while_the_overdue_are_removed(collector, monkeypatch):
    """Rewriting a large segment keeps no sender waiting: a request is answered while it runs."""
    publisher = collector.parts.publisher
    entered, free = threading.Event(), threading.Event()
    real = publisher._write

    def slow(*arguments, **named):
        entered.set()
        assert free.wait(20)
        return real(*arguments, **named)

    for days_ago in (20, 0):
        turns = list(synthesize(5, seed=days_ago, end=NOW - timedelta(days=days_ago), hours=1))
        collector.send("traces", span_request(turns))
    publisher._publish()
    monkeypatch.setattr(publisher, "_write", slow)
    pruning = threading.Thread(target=publisher.prune)
    pruning.start()
    try:
        assert entered.wait(20)
        assert collector.send("traces", spans(10)).status_code == 200
        assert pruning.is_alive()
    finally:
        free.set()
        pruning.join(20)
    wait_for(lambda: not pruning.is_alive(), 30, "pruning ends")
    assert collector.rows(
        "select count(*) from spans where started_at between now() - interval 21 day and now() - interval 8 day"
    ) == [[0]]
