"""Files of other times are left unread, and nothing that a query asks for lies in them."""

from datetime import UTC, datetime, timedelta
from itertools import groupby

import pytest

from collector.store.store import EVER, Times
from collector.synthetic.requests import record_request, span_request
from collector.synthetic.turns import synthesize
from dashboard import queries
from dashboard.state import custom_view
from tests.integration.collector.conftest import Collector, start

NEVER_MS = 3_600_000
END = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOURS = 9
VIEW = custom_view(END - timedelta(hours=4), END - timedelta(hours=3))
NAMES = sorted(set(queries.names()) - {"show_turn", "show_spans"})


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """A collector with a segment of each table for every hour, and an hour that has just landed."""
    client, parts = start(tmp_path_factory.mktemp("reach"), commit_wait_ms=1, publish_ms=NEVER_MS)
    turns = sorted(synthesize(900, seed=12, end=END, hours=HOURS), key=lambda turn: turn.start_ns)
    with client:
        collector = Collector(client, parts)
        for hour, some in groupby(turns, key=lambda turn: turn.start_ns // 3_600_000_000_000):
            part = list(some)
            assert collector.send("logs", record_request(part)).status_code == 200
            assert collector.send("traces", span_request(part)).status_code == 200
            if hour != turns[-1].start_ns // 3_600_000_000_000:
                parts.publisher.round()
        yield collector


def values_of(loaded):
    """Parameters that every query takes something from: a window in the middle, and a turn of it."""
    turn = loaded.rows(
        "select turn_id, conversation_id, started_at, ended_at from turns where ended_at >= ?::timestamptz and sources_count > 0 order by ended_at limit 1",
        VIEW.start.isoformat(),
    )[0]
    return {
        **VIEW.params(),
        "since": VIEW.start.isoformat(),
        "limit": 1000,
        "offset": 0,
        "pick": "newest",
        **dict(zip(("turn_id", "conversation_id", "started_at", "ended_at"), turn, strict=True)),
        "needle": turn[0],
        **dict.fromkeys(("reason", "tool", "outcome", "sources", "model", "version", "instance", "tools")),
        "stage": "model_wait_ms",
        "low_ms": 1,
        "high_ms": 10**6,
        "box_start": VIEW.start.isoformat(),
        "box_end": VIEW.end.isoformat(),
        "alert_id": "none",
    }


def ask(loaded, name, values, reach):
    wanted = {key: values[key] for key in queries.parameters(name)}
    sql = queries.ranking(name, 10) if name.removeprefix("rolled/") in queries.RANKED else queries.load(name)
    answer = loaded.http.post("/v1/sql", json={"sql": sql, "params": wanted, **reach(wanted)._asdict()})
    assert answer.status_code == 200, answer.text
    return answer.json()["rows"]


@pytest.mark.parametrize("name", NAMES)
def test_a_query_gives_the_same_within_its_reach(loaded, name):
    """Every named query of the dashboard, over turns and over rollups: the rows are those of all files."""
    values = values_of(loaded)
    for asked in {name, queries.chosen(name, values)}:
        near = ask(loaded, asked, values, queries.reach)
        assert sorted(map(str, near)) == sorted(map(str, ask(loaded, asked, values, lambda _: queries.EVER)))


@pytest.mark.parametrize("name", ["overview", "turn", "turn_spans", "gaps"])
def test_files_of_other_times_are_not_opened(loaded, name):
    """Less than all files of turns and spans, and something is found in them."""
    values = values_of(loaded)
    reach = queries.reach({key: values[key] for key in queries.parameters(name)})
    times = Times(*map(datetime.fromisoformat, reach))
    for table in ("ended", "spans"):
        assert 1 < opened(loaded, table, times) < opened(loaded, table, EVER)
    assert ask(loaded, name, values, queries.reach)


def opened(loaded, table, times):
    """How many files of a table a reader of these times sees."""
    with loaded.parts.store.reading(times) as reader:
        return reader.execute(f"SELECT len(getvariable('segments')['{table}'])").fetchone()[0]


def test_times_of_a_query_are_told_by_http(loaded):
    """A query that asks for everything sees what has landed, and the files of the times that are named alone; a time that is none is refused."""
    sql = "select count(*), min(ended_at) from turns"
    times = {"since": (END - timedelta(hours=4)).isoformat(), "until": (END - timedelta(hours=3)).isoformat()}
    whole, near = (loaded.http.post("/v1/sql", json={"sql": sql, **some}).json()["rows"][0] for some in ({}, times))
    assert 0 < near[0] < whole[0]
    assert near[1] > whole[1]
    assert loaded.http.post("/v1/sql", json={"sql": sql, "since": "yesterday"}).status_code == 400
