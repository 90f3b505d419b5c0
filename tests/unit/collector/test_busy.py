"""Queries and publications stand back where rows come in about as fast as they can be stored."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pytest

from collector import writer as writing
from collector.sql.surface import Query, QueryError, SqlSurface
from collector.sql.turns import MOST_REST_S, MOST_WAIT_S, Busy, Turns
from collector.store.append import Appended
from collector.store.publisher import WAIT_ROWS, may_wait
from collector.writer import Rows, Writer
from tests.support.product import wait_for

ROW = {"turn_id": "trn_1"}


class Clock:
    """A clock that stands still until it is set on."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


class SlowStore:
    """Takes its time for every commit."""

    hot_rows = 0

    def __init__(self, clock, commit_s):
        self.clock, self.commit_s = clock, commit_s

    def append(self, tables):
        self.clock.now += self.commit_s
        return Appended({"accepted": 1}, {"accepted": 0})


@pytest.mark.parametrize(("commit_s", "pause_s", "busy"), [(0.03, 0.02, True), (0.02, 0.2, False), (0.5, 0.0, True)])
def test_a_writer_is_busy_where_commits_take_much_of_the_time(monkeypatch, commit_s, pause_s, busy):
    """By the share of the last seconds: 60% and everything is busy, 9% is not; a while after the last commit none is."""
    clock = Clock()
    monkeypatch.setattr(writing, "time", clock)
    writer = Writer(
        SlowStore(clock, commit_s), queue_rows=10, commit_rows=1, commit_wait_ms=0, hot_rows=10, observe=lambda *_: None
    )
    for _ in range(100):
        done = threading.Event()
        writer.submit(Rows(accepted=[ROW]), lambda _error, done=done: done.set())
        assert done.wait(5)
        clock.now += pause_s
    assert writer.busy is busy
    clock.now += 5
    assert not writer.busy
    writer.close()


class Counting:
    """A store whose readers are counted, and stay until the count is as it should be or time is up."""

    def __init__(self, together):
        self.met = threading.Barrier(together)
        self.at_once, self.most = 0, 0
        self.lock = threading.Lock()

    def reading(self, _times):
        return self

    def __enter__(self):
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        with contextlib.suppress(threading.BrokenBarrierError):
            self.met.wait(0.5)
        return duckdb.connect(":memory:")

    def __exit__(self, *_):
        with self.lock:
            self.at_once -= 1


@pytest.mark.parametrize(("storing", "most"), [(True, 1), (False, 3)])
def test_queries_run_one_after_the_other_while_much_is_stored(storing, most):
    """Three that come at once: together where there is room, one by one where the writer needs it; every one is answered."""
    store = Counting(3)
    surface = SqlSurface(store, concurrency=3, waiting=0, max_rows=10, max_bytes=1000, timeout_ms=1000, storing=lambda: storing)
    with ThreadPoolExecutor(3) as people:
        answers = list(
            people.map(surface._run, [Query(sql="select 1", max_rows=1, timeout_ms=1000)] * 3, [surface._turns.now()] * 3)
        )
    assert [answer.rows for answer in answers] == [1, 1, 1]
    assert store.most == most
    surface.close()


class Hour:
    """A clock that sleeping sets on; `ends_at` is when rows stop coming in."""

    def __init__(self, ends_at=1e9):
        self.now, self.ends_at = 0.0, ends_at

    def clock(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds

    def storing(self):
        return self.now < self.ends_at


@pytest.mark.parametrize(
    ("took_s", "ends_at", "begins_after_s"),
    [(0.2, 1e9, 0.4), (3.0, 1e9, 6.0), (3.0, 4.0, 1.0), (3.0, 2.0, 0.0)],
    ids=["short", "longer", "less comes in meanwhile", "less comes in already"],
)
def test_a_query_waits_twice_as_long_as_the_one_before_took(took_s, ends_at, begins_after_s):
    """While much is stored: queries have a third of the time."""
    hour = Hour(ends_at)
    turns = Turns(hour.storing, clock=hour.clock, sleep=hour.sleep)
    with turns.turn(hour.now):
        assert hour.now == 0  # nothing ran before
        hour.now += took_s
    ended = hour.now
    with turns.turn(hour.now):
        assert hour.now - ended == pytest.approx(begins_after_s, abs=0.051)


def test_a_query_that_fails_makes_the_next_one_wait_too():
    """It took its time all the same, and it gives the turn back."""
    hour = Hour()
    turns = Turns(hour.storing, clock=hour.clock, sleep=hour.sleep)
    with pytest.raises(ValueError, match="no"), turns.turn(hour.now):
        hour.now += 2
        raise ValueError("no")
    with turns.turn(hour.now):
        assert hour.now == pytest.approx(6)


def test_nobody_waits_longer_than_callers_do(monkeypatch):
    """A rest is shorter than that, however long a query took; who would wait longer is told so at once, and gets a turn when the rest is over."""
    assert MOST_REST_S < MOST_WAIT_S
    hour = Hour()
    turns = Turns(hour.storing, clock=hour.clock, sleep=hour.sleep)
    with turns.turn(hour.now):
        hour.now += 60
    monkeypatch.setattr("collector.sql.turns.MOST_WAIT_S", 5)
    with pytest.raises(Busy), turns.turn(hour.now):
        pass
    assert hour.now == 60
    hour.now += 3
    with pytest.raises(Busy), turns.turn(hour.now - 1):  # it waited already, for a thread
        pass
    with turns.turn(hour.now):
        assert hour.now == pytest.approx(60 + MOST_REST_S, abs=0.051)


def test_a_query_that_began_before_much_was_stored_counts_too():
    """It ran on beside what was stored, so the next one rests."""
    hour = Hour()
    storing = False
    turns = Turns(lambda: storing, clock=hour.clock, sleep=hour.sleep)
    with turns.turn(hour.now):
        hour.now += 2
        storing = True
    with turns.turn(hour.now):
        assert hour.now == pytest.approx(6, abs=0.051)


def test_who_got_no_turn_is_told_to_come_again(monkeypatch):
    """While another query has the turn: 503, and later it is answered."""
    monkeypatch.setattr("collector.sql.turns.MOST_WAIT_S", 0.05)
    surface = SqlSurface(
        Counting(1), concurrency=2, waiting=0, max_rows=10, max_bytes=1000, timeout_ms=1000, storing=lambda: True
    )
    asked = Query(sql="select 1", max_rows=1, timeout_ms=1000)
    with surface._turns.turn(surface._turns.now()), pytest.raises(QueryError, match="take turns") as refused:
        surface._run(asked, surface._turns.now())
    assert refused.value.status == 503
    wait_for(lambda: answered(surface, asked), 30, "it is answered")
    surface.close()


def answered(surface, query):
    with contextlib.suppress(QueryError):
        return surface._run(query, surface._turns.now()).rows == 1


@pytest.mark.parametrize(
    ("busy", "rows", "waited_s", "waits"),
    [(True, 1, 11, True), (False, 1, 3, False), (True, 1, 12, False), (True, WAIT_ROWS, 3, False)],
)
def test_a_publication_waits_for_a_pause_within_bounds(busy, rows, waited_s, waits):
    """Neither without need, nor for longer than four of its rounds, nor until there are many rows."""
    assert may_wait(busy=busy, rows=rows, waited_s=waited_s, every_s=3) == waits
