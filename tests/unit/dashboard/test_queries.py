from __future__ import annotations

from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from dashboard import queries
from tests.unit.dashboard.surface import connect

START = datetime(2026, 11, 24, 11, tzinfo=UTC)
VALUES = {
    "before": (START - timedelta(hours=1)).isoformat(),
    "start": START.isoformat(),
    "end": (START + timedelta(hours=1)).isoformat(),
    "since": START.isoformat(),
    "bucket_ms": 600_000,
    "route": None,
    "tier": None,
    "status": None,
    "pick": "newest",
    "limit": 5,
    "turn_id": "trn_1",
    "ended_at": START.isoformat(),
    "started_at": START.isoformat(),
    "conversation_id": "cnv_1",
    "needle": "trn_",
    "reason": None,
    "stage": None,
    "low_ms": 0,
    "high_ms": 10**9,
    "tool": None,
    "outcome": None,
    "sources": None,
    "model": None,
    "version": None,
    "instance": None,
    "tools": None,
    "box_start": START.isoformat(),
    "box_end": (START + timedelta(minutes=10)).isoformat(),
    "offset": 0,
    "alert_id": "a1",
}
EXECUTED = [name for name in queries.names() if not name.startswith("show_")]


@pytest.fixture
def surface() -> duckdb.DuckDBPyConnection:
    return connect()


def run(surface: duckdb.DuckDBPyConnection, name: str, **changed: object) -> list[dict[str, object]]:
    values = {**VALUES, **changed}
    rows: list[dict[str, object]] = (
        surface.execute(queries.load(name), {key: values[key] for key in queries.parameters(name)}).to_arrow_table().to_pylist()
    )
    return rows


def add_turn(surface: duckdb.DuckDBPyConnection, turn_id: str, minute: float, **columns: object) -> None:
    columns = {
        "turn_id": turn_id,
        "ended_at": (START + timedelta(minutes=minute)).isoformat(),
        "terminal": "done",
        "completion_status": "success",
        "route": "a",
        "model_tier": "smart",
        "broken": False,
        "client_left": False,
        "total_ms": 100,
        **columns,
    }
    surface.execute(f"INSERT INTO turns ({', '.join(columns)}) VALUES ({', '.join(f'${name}' for name in columns)})", columns)


@pytest.mark.parametrize("name", EXECUTED)
def test_query_runs_on_the_agreed_surface(surface: duckdb.DuckDBPyConnection, name: str) -> None:
    """Every named query names only tables, columns and parameters that the surface has."""
    run(surface, name)


@pytest.mark.parametrize("name", queries.names())
def test_query_says_what_a_row_is(name: str) -> None:
    """Every file opens with a comment, because it is read by people who never saw the page."""
    assert queries.load(name).startswith("-- ")


@pytest.mark.parametrize("title", queries.examples())
def test_example_of_the_sql_page_runs(surface: duckdb.DuckDBPyConnection, title: str) -> None:
    """Each is a question, and one statement that the surface understands."""
    assert title.endswith("?")
    assert len(duckdb.extract_statements(queries.examples()[title])) == 1
    surface.execute(queries.examples()[title])


def test_overview_counts_broken_turns_and_not_readers_who_left(surface: duckdb.DuckDBPyConnection) -> None:
    """The partial rate is broken over all; a reader who left is counted apart."""
    add_turn(surface, "1", 1)
    add_turn(surface, "2", 2, broken=True)
    add_turn(surface, "3", 15, client_left=True)
    add_turn(surface, "4", -5, broken=True)
    rows = run(surface, "overview")
    whole = next(row for row in rows if row["period"] == "now" and row["bucket"] is None)
    assert (whole["turns"], whole["broken"], whole["client_left"]) == (3, 1, 1)
    assert [row["bucket"] for row in rows if row["period"] == "now"] == [None, 0, 1]
    assert [(row["bucket"], row["turns"]) for row in rows if row["period"] == "before"] == [(None, 1)]


def test_overview_has_no_row_for_an_empty_window(surface: duckdb.DuckDBPyConnection) -> None:
    """An empty window is no row, so that it cannot be taken for a window of zeros."""
    assert run(surface, "overview") == []


def test_filters_narrow_every_figure(surface: duckdb.DuckDBPyConnection) -> None:
    """Route, tier and status each leave out what does not fit; a status is the terminal where there is no completion status."""
    add_turn(surface, "1", 1)
    add_turn(surface, "2", 2, route="b", model_tier="fast")
    add_turn(surface, "3", 3, terminal="error", completion_status=None)
    assert run(surface, "overview", route="b")[0]["turns"] == 1
    assert run(surface, "overview", tier="smart")[0]["turns"] == 2
    assert run(surface, "overview", status="error")[0]["turns"] == 1


def test_tools_follow_the_filter_on_tier(surface: duckdb.DuckDBPyConnection) -> None:
    """Calls are counted for the turns of the chosen tier only, though a call itself names no tier."""
    for turn_id, tier in (("1", "smart"), ("2", "fast")):
        add_turn(surface, turn_id, 1, model_tier=tier)
        surface.execute(
            "INSERT INTO turn_tools VALUES (?, ?::TIMESTAMPTZ, 'a', 1, 'search', 'results', 5)",
            [turn_id, (START + timedelta(minutes=1)).isoformat()],
        )
    assert next(row for row in run(surface, "tools") if row["name"] == "search")["calls"] == 2
    assert next(row for row in run(surface, "tools", tier="fast") if row["name"] == "search")["calls"] == 1


def test_stages_leave_out_what_did_not_run(surface: duckdb.DuckDBPyConnection) -> None:
    """A stage that is absent counts in no percentile; one that took 0 ms does."""
    add_turn(surface, "1", 1, auth_ms=0, retrieval_ms=40)
    add_turn(surface, "2", 2, auth_ms=10)
    turns = {row["stage"]: row["turns"] for row in run(surface, "stages")}
    assert turns == {"auth_ms": 2, "retrieval_ms": 1, "total_ms": 2}


@pytest.mark.parametrize(("pick", "expected"), [("newest", ["3", "2", "1"]), ("slowest", ["1", "3", "2"]), ("broken", ["2"])])
def test_turn_list_is_picked_as_named(surface: duckdb.DuckDBPyConnection, pick: str, expected: list[str]) -> None:
    """Newest by end, slowest by total, broken only those that broke."""
    add_turn(surface, "1", 1, total_ms=900)
    add_turn(surface, "2", 2, total_ms=10, broken=True)
    add_turn(surface, "3", 3, total_ms=50)
    assert [row["turn_id"] for row in run(surface, "turns", pick=pick)] == expected


def test_neighbours_are_the_nearest_on_each_side(surface: duckdb.DuckDBPyConnection) -> None:
    """Of a conversation, the turn just before and the one just after."""
    for place in range(5):
        add_turn(
            surface, f"t{place}", place, conversation_id="cnv_1", started_at=(START + timedelta(minutes=place)).isoformat()
        )
    asked = {"turn_id": "t2", "started_at": (START + timedelta(minutes=2)).isoformat()}
    assert {row["side"]: row["turn_id"] for row in run(surface, "turn_neighbours", **asked)} == {"before": "t1", "after": "t3"}


def test_broken_turn_counts_in_the_stage_that_it_broke_in(surface: duckdb.DuckDBPyConnection) -> None:
    """The last stage with a time before the answer was settled; a lost turn has none, and a whole one is not counted."""
    before_text = {"auth_ms": 1, "model_wait_ms": 5}
    add_turn(surface, "1", 1, **before_text, reason="stall_timeout", broken=True, first_token_ms=9, stream_ms=4, finalize_ms=1)
    add_turn(surface, "2", 2, **before_text, reason="deadline", broken=True, terminal="error", finalize_ms=1)
    add_turn(surface, "3", 3, broken=True, terminal="abandoned", auth_ms=1)
    add_turn(surface, "4", 4, **before_text)
    rows = {(row["reason"], row["stage"], row["turns"]) for row in run(surface, "partials")}
    assert rows == {("stall_timeout", "stream_ms", 1), ("deadline", "model_wait_ms", 1), ("abandoned", None, 1)}


def test_turn_in_trouble_has_one_ending(surface: duckdb.DuckDBPyConnection) -> None:
    """Each is counted once, by the worst that became of it; readers who left and turns that went right at once are no trouble."""
    add_turn(surface, "1", 1, attempts=2)
    add_turn(surface, "2", 1, attempts=3, degraded=True)
    add_turn(surface, "3", 1, attempts=3, fallback=True)
    add_turn(surface, "4", 1, attempts=2, degraded=True, broken=True, first_token_ms=3)
    add_turn(surface, "5", 1, attempts=3, broken=True, terminal="error")
    add_turn(surface, "6", 1, attempts=1)
    add_turn(surface, "7", 1, attempts=2, client_left=True)
    endings = {row["ending"]: row["turns"] for row in run(surface, "partial_ends")}
    assert endings == {"retried": 1, "degraded": 1, "fallback": 1, "kept": 1, "failed": 1}


def test_time_to_break_counts_from_the_first_token(surface: duckdb.DuckDBPyConnection) -> None:
    """Half octaves of what lies between the first visible token and the break; the first row is their median."""
    add_turn(surface, "1", 1, broken=True, first_token_ms=900, total_ms=1000, stream_ms=64)
    add_turn(surface, "2", 1, broken=True, first_token_ms=900, total_ms=964)
    add_turn(surface, "3", 1, broken=True, total_ms=964)
    rows = run(surface, "partial_breaks")
    assert [(row["size"], row["turns"], row["p50_ms"]) for row in rows] == [(None, 2, 64.0), (12, 2, 64.0)]


@pytest.mark.parametrize(
    ("narrowed", "expected"),
    [
        ({"reason": "deadline"}, ["2"]),
        ({"reason": "done"}, ["3", "1"]),
        ({"stage": "model_wait_ms", "low_ms": 50, "high_ms": 80}, ["2"]),
        ({"tool": "search"}, ["3", "1"]),
        ({"tool": "search", "outcome": "empty"}, ["3"]),
        ({"sources": 0}, ["3"]),
        ({"tools": "search"}, ["3", "1"]),
        ({"tools": "(none)"}, ["2"]),
        ({"model": "m"}, ["1"]),
        ({"version": "(none)"}, ["3", "2", "1"]),
        ({"instance": "p"}, []),
    ],
)
def test_list_of_turns_is_narrowed_by_what_was_asked(
    surface: duckdb.DuckDBPyConnection, narrowed: dict[str, object], expected: list[str]
) -> None:
    """Reason, a stage's bounds, a tool and its outcome, and the number of sources each leave out what does not fit."""
    add_turn(surface, "1", 1, model_wait_ms=10, sources_count=2, model="m", tools_used=["search"])
    add_turn(surface, "2", 2, model_wait_ms=60, broken=True, reason="deadline", terminal="error", sources_count=0)
    add_turn(surface, "3", 3, sources_count=0, tools_used=["search"])
    for turn_id, outcome in (("1", "results"), ("3", "empty")):
        surface.execute(
            "INSERT INTO turn_tools VALUES (?, ?::TIMESTAMPTZ, 'a', 1, 'search', ?, 5)",
            [turn_id, (START + timedelta(minutes=1)).isoformat(), outcome],
        )
    rows = run(surface, "turn_list", **narrowed)
    assert [row["turn_id"] for row in rows] == expected
    assert {row["found"] for row in rows} == ({len(expected)} if expected else set())


@pytest.mark.parametrize("name", queries.RANKED)
def test_marked_turns_can_be_ranked(surface: duckdb.DuckDBPyConnection, name: str) -> None:
    """What marks turns fits the ranking that alerts use: the slice that broke more than before is named first, by its own attribute alone."""
    for place in range(400):
        route, minute = ("bad", "good")[place % 2], 1 if place % 4 < 2 else -30
        hurt = route == "bad" and minute == 1
        add_turn(surface, f"t{place}", minute, route=route, broken=hurt, total_ms=900 if hurt else 10)
    values = {**VALUES, "stage": "total_ms", "low_ms": 500}
    rows = (
        surface.execute(queries.ranking(name, 5), {key: values[key] for key in queries.parameters(name)})
        .to_arrow_table()
        .to_pylist()
    )
    assert rows[0]["attributes"] == '{"route":"bad"}'
    assert (rows[0]["turns"], rows[0]["broken"]) == (100, 100)


def test_heat_counts_every_turn_once(surface: duckdb.DuckDBPyConnection) -> None:
    """A quarter of an octave each, below a millisecond one for all; the rows without a size are the quantiles of their bucket and of the window."""
    add_turn(surface, "1", 1, model_wait_ms=0)
    add_turn(surface, "2", 1, model_wait_ms=64)
    add_turn(surface, "3", 11, model_wait_ms=64)
    add_turn(surface, "4", 11)
    rows = run(surface, "stage_heat", stage="model_wait_ms")
    assert {(row["bucket"], row["size"]): row["turns"] for row in rows} == {
        (None, None): 3,
        (0, None): 2,
        (0, -1): 1,
        (0, 24): 1,
        (1, None): 1,
        (1, 24): 1,
    }


def test_shares_of_a_route_are_one(surface: duckdb.DuckDBPyConnection) -> None:
    """Of the time of a route's turns, whatever the other routes took."""
    for turn_id, route, stage, ms in (("1", "a", "modelWait", 30), ("1", "a", "unaccounted", 10), ("2", "b", "modelWait", 500)):
        surface.execute(
            "INSERT INTO turn_stages VALUES (?, ?::TIMESTAMPTZ, ?, 'smart', ?, 1, ?, 0)",
            [turn_id, START.isoformat(), route, stage, ms],
        )
    shares = {(row["route"], row["stage"]): row["share"] for row in run(surface, "stage_shares")}
    assert shares == {("a", "modelWait"): 0.75, ("a", "unaccounted"): 0.25, ("b", "modelWait"): 1.0}


def test_sources_are_counted_by_origin_and_host(surface: duckdb.DuckDBPyConnection) -> None:
    """A source of two origins counts in both and once in all; hosts are read out of addresses, without www, port and user."""
    urls = ("https://www.a.example/x?y", "http://user@a.example:81/z", "https://b.example", "not an address")
    for place, address in enumerate(urls):
        surface.execute(
            "INSERT INTO turn_sources VALUES (?, ?::TIMESTAMPTZ, 'a', 1, ?, NULL, NULL, ?, 0.5)",
            [f"t{place % 2}", START.isoformat(), address, ["tool", "answer"] if place == 0 else ["tool"]],
        )
    origins = {row["origin"]: (row["sources"], row["turns"]) for row in run(surface, "source_origins")}
    assert origins == {None: (4, 2), "tool": (4, 2), "answer": (1, 1)}
    hosts = {row["host"]: (row["sources"], row["turns"]) for row in run(surface, "source_domains")}
    assert hosts == {"a.example": (2, 2), "b.example": (1, 1), "(none)": (1, 1)}


def test_search_finds_ids_and_beginnings(surface: duckdb.DuckDBPyConnection) -> None:
    """A whole id of any kind finds its turns, and so does the beginning of a turn's or a trace's; each turn is listed once."""
    turn, trace, conversation = "trn_" + "a" * 32, "b" * 32, "cnv_" + "c" * 32
    add_turn(surface, turn, 1, trace_id=trace, conversation_id=conversation)
    add_turn(surface, "trn_" + "d" * 32, 2, trace_id="e" * 32, conversation_id=conversation)
    for needle in (turn, turn[:9], trace, trace[:5]):
        assert [row["turn_id"] for row in run(surface, "find_turns", needle=needle)] == [turn]
    assert len(run(surface, "find_turns", needle=conversation)) == 2
    assert len(run(surface, "find_turns", needle="trn_")) == 2
    assert run(surface, "find_turns", needle="f" * 32) == []


def test_rollups_are_asked_for_windows_of_whole_steps() -> None:
    """Where a window, the one before it and its buckets are whole steps of five minutes, else turns; a query without rollups is always the same."""
    assert queries.chosen("overview", VALUES) == "rolled/overview"
    for key, value in (
        ("start", START + timedelta(seconds=10)),
        ("end", START + timedelta(minutes=61)),
        ("before", START - timedelta(seconds=1)),
    ):
        assert queries.chosen("overview", {**VALUES, key: value.isoformat()}) == "overview"
    assert queries.chosen("overview", {**VALUES, "bucket_ms": 60_000}) == "overview"
    assert queries.chosen("turn", VALUES) == "turn"


def test_gaps_count_what_is_missing(surface: duckdb.DuckDBPyConnection) -> None:
    """Lost turns, records whose trace never came, and turns without a record each have their count; a lost turn is not missing a trace."""
    add_turn(surface, "1", 1, origin="record")
    add_turn(surface, "2", 1, origin="record", recovered=True)
    add_turn(surface, "3", 1, origin="record", terminal="abandoned")
    add_turn(surface, "4", 1, origin="spans")
    at = (START + timedelta(minutes=1)).isoformat()
    surface.execute("INSERT INTO turn_roots VALUES (?::TIMESTAMPTZ, '1')", [at])
    # A step that holds what began an hour before the window, and begins before that.
    early = (START - timedelta(minutes=64)).isoformat()
    add_turn(surface, "5", 1, origin="record")
    surface.execute("INSERT INTO turn_roots VALUES (?::TIMESTAMPTZ, '5')", [early])
    assert run(surface, "gaps") == [{"turns": 5, "lost": 1, "recovered": 1, "of_spans": 1, "without_trace": 1, "open_now": 0}]


def add_alert(
    surface: duckdb.DuckDBPyConnection, alert_id: str, since: float, resolved: float | None, **columns: object
) -> None:
    ends = None if resolved is None else (START + timedelta(minutes=resolved)).isoformat()
    columns = {
        "alert_id": alert_id,
        "rule": "partial_rate",
        "severity": "page",
        "role": "root",
        "state": "firing" if resolved is None else "resolved",
        "since_at": (START + timedelta(minutes=since)).isoformat(),
        "fired_at": (START + timedelta(minutes=since + 3)).isoformat(),
        "resolved_at": ends,
        **columns,
    }
    surface.execute(f"INSERT INTO alerts ({', '.join(columns)}) VALUES ({', '.join(f'${name}' for name in columns)})", columns)


def test_episodes_are_those_that_touch_the_window(surface: duckdb.DuckDBPyConnection) -> None:
    """One that began before it and reaches into it counts, one that was over before it does not; what fires now stands first, whatever the window."""
    add_alert(surface, "over", -90, -30)
    add_alert(surface, "reaches in", -30, 5)
    add_alert(surface, "within", 10, 20)
    add_alert(surface, "after", 61, 90)
    add_alert(surface, "fires", 120, None)
    assert [row["alert_id"] for row in run(surface, "alerts", limit=9)] == ["fires", "within", "reaches in"]
    assert [row["alert_id"] for row in run(surface, "alert_spans", limit=9)] == ["within", "reaches in"]


def test_only_incidents_of_the_partial_rate_are_its_ground(surface: duckdb.DuckDBPyConnection) -> None:
    """Neither a symptom, which has the same time, nor a rule that counts something else."""
    add_alert(surface, "symptom", 1, 5, role="symptom")
    add_alert(surface, "left", 1, 5, rule="client_left")
    assert run(surface, "alert_spans") == []


def test_firing_incidents_stand_pages_first(surface: duckdb.DuckDBPyConnection) -> None:
    """One line an incident: its symptoms are not told again."""
    add_alert(surface, "ticket", 5, None, severity="ticket")
    add_alert(surface, "page", 1, None)
    add_alert(surface, "symptom", 1, None, role="symptom")
    add_alert(surface, "over", 1, 2)
    assert [row["alert_id"] for row in run(surface, "alerts_firing")] == ["page", "ticket"]


def test_event_that_nobody_was_told_is_listed_too(surface: duckdb.DuckDBPyConnection) -> None:
    """With no receiver set an event has no delivery, and happened all the same."""
    for event, minute in (("e1", 1), ("e2", 2)):
        at = (START + timedelta(minutes=minute)).isoformat()
        surface.execute(
            "INSERT INTO alert_events (event_id, alert_id, happened_at, change) VALUES (?, 'a1', ?::TIMESTAMPTZ, 'fired')",
            [event, at],
        )
    surface.execute("INSERT INTO alert_deliveries (event_id, alert_id, receiver, state) VALUES ('e2', 'a1', 'slack', 'dead')")
    rows = [(row["event_id"], row["receiver"], row["state"]) for row in run(surface, "alert_told")]
    assert rows == [("e1", None, None), ("e2", "slack", "dead")]


def test_blindest_series_stands_first_and_one_without_turns_last(surface: duckdb.DuckDBPyConnection) -> None:
    """No multiple that would show is blinder than any; a series without turns has nothing to see."""
    for route, turns, visible in (("clear", 900, 2.0), ("dim", 90, 9.0), ("blind", 3, None), ("gone", 0, None)):
        surface.execute(
            "INSERT INTO alert_series (rule, route, turns, visible_60) VALUES ('partial_rate', ?, ?, ?)",
            [route, turns, visible],
        )
    assert [row["route"] for row in run(surface, "alert_series")] == ["blind", "dim", "clear", "gone"]


def test_page_of_turns_says_how_many_there_are(surface: duckdb.DuckDBPyConnection) -> None:
    """A page holds its own rows and the number of all that were found."""
    for place in range(5):
        add_turn(surface, f"t{place}", place)
    rows = run(surface, "turn_list", limit=2, offset=2)
    assert [(row["turn_id"], row["found"]) for row in rows] == [("t2", 5), ("t1", 5)]


def test_values_shown_for_reading_are_quoted() -> None:
    """A value with a quote stays one literal in the text that people copy."""
    assert "turn_id = 'x''; drop'" in queries.for_reading("show_turn", {"turn_id": "x'; drop"})
