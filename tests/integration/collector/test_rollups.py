"""Rollups: a query over them gives what the same query over turns gives, and a store from before gets those that it lacks."""

from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from collector.store.rollups import ROLLUPS
from collector.synthetic.requests import record_request, span_request
from collector.synthetic.turns import synthesize
from dashboard import queries
from dashboard.state import custom_view
from tests.integration.collector.conftest import Collector, start

NEVER_MS = 3_600_000
END = datetime(2026, 11, 24, 12, tzinfo=UTC)
VIEW = custom_view(END - timedelta(hours=8), END)
NEAR = 0.0443
"""Half an eighth of an octave: how far the middle of a bucket lies from what is in it."""
STEPS = ("turn_steps", "stage_steps", "tool_steps", "source_steps", "turn_roots")
VALUES = {**VIEW.params(), "since": VIEW.start.isoformat(), "limit": 1000, "stage": "model_wait_ms"}
ROLLED = sorted(name for name in queries.names() if queries.chosen(name, VALUES) != name and name not in queries.RANKED)
FILTERS = ({}, {"route": "knowledge"}, {"tier": "fast", "status": "success"}, {"status": "abandoned"}, {"route": "(none)"})


def sent(folder, count=1500):
    """A collector with turns over two windows; half of them are published, half have just landed."""
    client, parts = start(folder, commit_wait_ms=1, publish_ms=NEVER_MS)
    turns = list(synthesize(count, seed=11, end=END, hours=16))
    with client:
        collector = Collector(client, parts)
        for half in (turns[: count // 2], turns[count // 2 :]):
            assert collector.send("logs", record_request(half)).status_code == 200
            assert collector.send("traces", span_request(half)).status_code == 200
            if half[0] is turns[0]:
                parts.publisher.round()
        yield collector


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    yield from sent(tmp_path_factory.mktemp("rollups"))


def ask(collector, name, values):
    wanted = {key: values[key] for key in queries.parameters(name)}
    answer = collector.http.post("/v1/sql", json={"sql": queries.load(name), "params": wanted})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return [dict(zip((column["name"] for column in body["columns"]), row, strict=True)) for row in body["rows"]]


@pytest.mark.parametrize("filters", FILTERS, ids=str)
@pytest.mark.parametrize("name", ROLLED)
def test_rollups_say_what_turns_say(loaded, name, filters):
    """Counts, shares and means are the same, whatever the filters, and a quantile is there where turns have one."""
    values = {**VALUES, **filters}
    turns = [row for row in ask(loaded, name, values) if row.get("turns") != 0]  # of no turns, the whole has a row of zeros
    rolled = ask(loaded, queries.chosen(name, values), values)
    assert [list(row) for row in turns[:1]] == [list(row) for row in rolled[:1]]
    exact = [column for column in (turns or [{}])[0] if not column.endswith(("_ms", "share", "score"))]
    assert sorted(str([row[c] for c in exact]) for row in rolled) == sorted(str([row[c] for c in exact]) for row in turns)
    keys = [column for column in exact if column in {"period", "bucket", "size", "route", "stage", "name", "host"}]
    other = {tuple(row[key] for key in keys): row for row in rolled}
    for row in turns:
        for column in set(row) - set(exact):
            mine, theirs = row[column], other[tuple(row[key] for key in keys)][column]
            if column.endswith("_ms"):
                assert row.get("size") is not None or (theirs is None) == (mine is None)
            else:
                assert theirs == pytest.approx(mine)


def test_every_turn_whose_root_span_came_is_among_the_roots(loaded):
    """Once, in the five minutes in which the span started, whether it is published or has just landed; another span of a turn is none."""
    roots = loaded.rows("select step, turn_id from turn_roots order by all")
    assert roots == loaded.rows(
        "select time_bucket(interval 5 minutes, started_at), turn_id from spans where name = 'turn' and turn_id is not null order by all"
    )
    assert 1000 < len(roots) == len({turn_id for _, turn_id in roots})


def test_quantiles_lie_within_a_bucket(loaded):
    """A quantile is at most 4.4% off the turn that has this rank, for every stage and both periods."""
    rolled = {(row["period"], row["stage"]): row for row in ask(loaded, "rolled/stages", VALUES)}
    true = loaded.rows(
        "with turned as (unpivot turns on auth_ms, retrieval_ms, model_wait_ms, stream_ms, finalize_ms, first_token_ms, total_ms into name stage value ms) "
        "select if(ended_at >= ?::timestamptz, 'now', 'before'), stage, quantile_disc(ms, 0.5), quantile_disc(ms, 0.95) from turned "
        "where ended_at >= ?::timestamptz and ended_at < ?::timestamptz group by all",
        VALUES["start"],
        VALUES["before"],
        VALUES["end"],
    )
    assert len(true) == 14
    for period, stage, p50, p95 in true:
        row = rolled[period, stage]
        assert row["p50_ms"] == pytest.approx(p50, rel=NEAR)
        assert row["p95_ms"] == pytest.approx(p95, rel=NEAR)


def test_ranking_over_rollups_is_the_one_over_turns(loaded):
    """The slices that stand out are the same, with the same counts and evidence."""
    found = []
    for asked in ("partial_marked", "rolled/partial_marked"):
        wanted = {key: VALUES[key] for key in queries.parameters(asked)}
        answer = loaded.http.post("/v1/sql", json={"sql": queries.ranking(asked, 20), "params": wanted})
        assert answer.status_code == 200, answer.text
        found.append(answer.json()["rows"])
    assert found[0]
    assert [row[:3] for row in found[0]] == [row[:3] for row in found[1]]
    assert [row[6] for row in found[0]] == pytest.approx([row[6] for row in found[1]])


def test_store_from_before_gets_the_rollups_that_it_lacks(tmp_path):
    """Turns that were published without them are counted at the next start, once, and stay counted as before."""

    def counted(collector):
        return {
            "turn_steps": collector.rows("select sum(n), sum(broken) from turn_steps"),
            "stage_steps": collector.rows("select sum(n), sum(ms) from stage_steps"),
            "tool_steps": collector.rows("select sum(n) from tool_steps"),
            "source_steps": collector.rows("select kind, sum(n), sum(turns) from source_steps group by all order by 1"),
            "turn_roots": collector.rows("select turn_id, step from turn_roots order by all"),
        }

    for collector in sent(tmp_path, 150):
        before = counted(collector)
        assert before["turn_steps"] == collector.rows("select count(*), count(*) filter (broken) from turns")
    with duckdb.connect(str(tmp_path / "collector" / "hot.duckdb")) as older:
        older.execute("delete from store.segments where table_name in (select unnest(?))", [list(STEPS)])
        older.execute("delete from store.meta where key = 'views'")
        older.execute("update store.meta set value = '2' where key = 'schema_version'")
    for name in STEPS:
        for path in (tmp_path / "collector" / "segments").glob(f"{name}-*.parquet"):
            path.unlink()
    for _ in range(2):
        client, parts = start(tmp_path, commit_wait_ms=1, publish_ms=NEVER_MS)
        with client:
            assert counted(Collector(client, parts)) == before


def test_every_rollup_begins_with_its_time():
    """What segments are pruned by is the first column of the key."""
    assert {rollup.at for rollup in ROLLUPS.values()} == {"minute", "step"}
