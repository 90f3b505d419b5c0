"""Queries stand back where rows come in about as fast as they can be stored."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import duckdb
import pytest

from collector import writer as writing
from collector.sql.surface import Query, SqlSurface
from collector.store.append import Appended
from collector.writer import Rows, Writer

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
        answers = list(people.map(surface._run, [Query(sql="select 1", max_rows=1, timeout_ms=1000)] * 3))
    assert [answer.rows for answer in answers] == [1, 1, 1]
    assert store.most == most
    surface.close()
