"""The one writer: many writes in a commit, each standing or falling alone; frames are shown when they are stored."""

import threading
import time

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from service.log import TurnLog
from service.store import writer as writing
from service.store.store import TurnStore
from service.store.writer import GroupWriter
from tests.support.product import wait_for
from tests.unit.service.test_log import TURN, ack, chunk
from tests.unit.service.test_store import end, ended, new_turn, record


@pytest.fixture
def writer(engine):
    writer = GroupWriter(engine)
    yield writer
    writer.close()


@pytest.fixture
def store(engine, writer):
    return TurnStore(engine, writer)


class Gate:
    """A job that holds the writer until it is let go, so that what comes meanwhile shares the next commit."""

    def __init__(self, writer):
        self.entered, self.leave = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=writer.run, args=(self.job,))
        self.thread.start()
        assert self.entered.wait(10)

    def job(self, connection):
        self.entered.set()
        assert self.leave.wait(10)

    def open(self):
        self.leave.set()
        self.thread.join(10)


def test_writes_that_wait_together_share_a_commit(store, writer):
    """Thirty turns accepted at once cost a few commits, not thirty."""
    gate = Gate(writer)
    threads = [threading.Thread(target=store.accept_turn, args=(new_turn(f"t{n}"), record(f"t{n}"))) for n in range(30)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(writer._jobs) == 30, 30, "all wait", 0.001)
    before = writer.commits
    gate.open()
    for thread in threads:
        thread.join(10)
    assert writer.commits - before == 2  # the gate's own, and one for all
    assert all(store.find_turn(f"t{n}") for n in range(30))


def test_a_job_that_fails_takes_nobody_with_it(store, writer):
    """What it wrote is undone, its caller hears why, and its neighbours in the commit are stored."""
    errors = []

    def broken(connection):
        connection.execute(text("insert into conversations values ('lost', 'c', '2026-01-01')"))
        raise LookupError("on purpose")

    def run_broken():
        try:
            writer.run(broken)
        except LookupError as error:
            errors.append(str(error))

    gate = Gate(writer)
    threads = [
        threading.Thread(target=run_broken),
        threading.Thread(target=store.accept_turn, args=(new_turn("kept"), record("kept"))),
    ]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(writer._jobs) == 2, 30, "both wait", 0.001)
    gate.open()
    for thread in threads:
        thread.join(10)
    assert errors == ["on purpose"]
    assert store.find_turn("kept")
    assert store.conversation_owner("lost") is None


def test_nobody_is_told_that_what_sqlite_has_undone_was_done(store, writer):
    """Where the disk is full SQLite may undo the whole transaction: all that shared it failed."""
    told = []

    def undone(connection):
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("INSERT INTO nowhere VALUES (1)")

    def run(job):
        try:
            told.append(job())
        except SQLAlchemyError as error:
            told.append(type(error))

    def accept(name):
        return lambda: store.accept_turn(new_turn(name), record(name))

    gate = Gate(writer)
    jobs = [accept("before"), lambda: writer.run(undone), accept("behind")]
    threads = []
    for number, job in enumerate(jobs, 1):
        threads.append(threading.Thread(target=run, args=(job,)))
        threads[-1].start()
        wait_for(lambda number=number: len(writer._jobs) == number, 30, "it waits", 0.001)
    gate.open()
    for thread in threads:
        thread.join(10)
    assert told == [OperationalError] * 3
    assert store.find_turn("before") is None
    assert store.find_turn("behind") is None
    store.accept_turn(new_turn("later"), record("later"))


def test_frames_are_shown_when_they_are_stored(store, writer):
    """A viewer cannot read what a crash could still take back."""
    store.accept_turn(new_turn(TURN), record(TURN))
    log = TurnLog(TURN, 10_000, store.save_frames)
    gate = Gate(writer)
    log.append(ack())
    log.append(chunk(2))
    assert (log.last_seq, log.shown_seq, log.read(0)) == (2, 0, (b"", 0))
    gate.open()
    wait_for(lambda: log.shown_seq == 2, 30, "the frames are shown", 0.001)
    assert store.find_frames(TURN) == log.frames_bytes


def test_first_text_of_a_turn_does_not_wait_for_company(store, writer, monkeypatch):
    """What comes after it does, until the pause is over or something else is written."""
    monkeypatch.setattr(writing, "PAUSE_S", 60)
    store.accept_turn(new_turn(TURN), record(TURN))
    log = TurnLog(TURN, 10_000, store.save_frames)
    for event in (ack(), chunk(2)):
        log.append(event)
        wait_for(lambda seq=event.seq: log.shown_seq == seq, 30, "it is shown", 0.001)
    log.append(chunk(3))
    time.sleep(0.05)
    assert log.shown_seq == 2
    writer.run(lambda _session: None)
    wait_for(lambda: log.shown_seq == 3, 30, "it is shown", 0.001)


def test_frames_of_an_ended_turn_become_its_log(store):
    """The pieces go when the whole log is stored, also those that were on their way."""
    store.accept_turn(new_turn(TURN), record(TURN))
    log = TurnLog(TURN, 10_000, store.save_frames)
    log.append(ack())
    log.append(chunk(2))
    log.seal()
    assert end(store, TURN)
    assert store.find_frames(TURN) == b""
    assert store.find_log(TURN) == b"frames"
    assert not log.closed


def test_log_of_a_turn_that_another_instance_closed_is_cut(store):
    """A process that stood still too long has lost its turn: its viewers are sent to the database."""
    store.accept_turn(new_turn(TURN), record(TURN))
    log = TurnLog(TURN, 10_000, store.save_frames)
    log.append(ack())
    wait_for(lambda: log.shown_seq == 1, 30, "ack is shown", 0.001)
    assert end(store, TURN, close=lambda: (ended(TURN), record(TURN, "turn.done")))
    log.append(chunk(2))
    wait_for(lambda: log.closed, 30, "the log is closed", 0.001)
    assert (log.terminal, log.shown_seq) == (None, 1)


def test_frames_are_shown_all_the_same_where_the_database_is_gone(store, writer, engine, monkeypatch):
    """A stream is worth more than its replay."""
    monkeypatch.setattr(writing, "GIVE_UP_S", 0.05)
    store.accept_turn(new_turn(TURN), record(TURN))
    with engine.begin() as connection:
        connection.execute(text("drop table turn_frames"))
    log = TurnLog(TURN, 10_000, store.save_frames)
    log.append(ack())
    wait_for(lambda: log.shown_seq == 1, 30, "ack is shown", 0.001)


def test_writer_writes_what_waits_before_it_closes(engine):
    """Nothing that was handed over is lost by an orderly end; what comes later is refused."""
    writer = GroupWriter(engine)
    store = TurnStore(engine, writer)
    store.accept_turn(new_turn(TURN), record(TURN))
    log = TurnLog(TURN, 10_000, store.save_frames)
    log.append(ack())
    log.append(chunk(2))
    writer.close()
    assert store.find_frames(TURN) == log.frames_bytes
    with pytest.raises(RuntimeError, match="closed"):
        writer.run(len)
