"""Text that is shown before the database has it: kept where a crash leaves it, and never overwritten too soon."""

import os
import threading
import time
from datetime import UTC, datetime

import pytest
from sqlalchemy.exc import OperationalError

from lastword.wire import decode_stream
from service.log import TurnLog
from service.recovery import closing_of
from service.store import ahead as keeping
from service.store import writer as writing
from service.store.ahead import SPACING_NS, AheadFile
from service.store.engine import open_engine
from service.store.store import TurnStore
from service.store.writer import GroupWriter
from tests.support.product import wait_for
from tests.unit.service.test_log import INFO, TURN, ack, chunk, error
from tests.unit.service.test_store import new_turn, record
from tests.unit.service.test_writer import Gate

OTHER = "trn_" + "1" * 32


class Life:
    """A process: its writer, its file, and a clock that stands still unless it is moved."""

    def __init__(self, engine):
        self.now_ns = SPACING_NS
        self.writer = GroupWriter(engine)
        self.ahead = AheadFile(engine, lambda: self.now_ns)
        self.ahead.open()
        self.ahead.lease(10**6, alone=True)
        self.store = TurnStore(engine, self.writer, ahead=self.ahead)

    def log(self, turn_id=TURN):
        """The log of a turn that is acknowledged."""
        self.store.accept_turn(new_turn(turn_id), record(turn_id))
        log = TurnLog(turn_id, 10_000_000, self.store.save_frames)
        log.append(ack())
        wait_for(lambda: log.shown_seq == 1, 30, "ack is shown", 0.001)
        return log

    def say(self, log, text="x"):
        """The next text, some time after the last."""
        self.now_ns += SPACING_NS
        log.append(chunk(log.last_seq + 1, text))

    def die(self, gate=None):
        """As the system does it: the file is let go, and nothing is written any more. `gate` holds the writer until then."""
        self.writer._write = lambda *_args, **_more: None
        if gate is not None:
            gate.open()
        self.ahead.close()
        self.writer.close()


@pytest.fixture
def life(engine):
    life = Life(engine)
    yield life
    life.writer.close()
    life.ahead.close()


def test_text_is_shown_while_the_writer_is_busy(life):
    """And stored once it is not."""
    log = life.log()
    gate = Gate(life.writer)
    life.say(log)
    life.say(log)
    assert log.shown_seq == 3
    assert log.stored_seq == 1
    gate.open()
    wait_for(lambda: log.stored_seq == 3, 30, "it is stored", 0.01)
    assert life.store.find_frames(TURN) == log.frames_bytes


def test_text_that_comes_fast_waits_for_the_writer(life):
    """Many pieces share a commit, and a place in the file."""
    log = life.log()
    gate = Gate(life.writer)
    life.say(log)
    log.append(chunk(3))
    assert log.shown_seq == 2
    gate.open()
    wait_for(lambda: log.shown_seq == 3, 30, "it is shown", 0.01)


def test_what_was_shown_outlives_the_process(engine):
    """The next one stores it before anybody asks; what was not shown is gone."""
    first = Life(engine)
    log, other = first.log(), first.log(OTHER)
    gate = Gate(first.writer)
    for text in ("one ", "two"):
        first.say(log, text)
    first.say(other, "three")
    other.append(chunk(3, "too soon"))
    first.die(gate)
    second = Life(engine)
    assert second.store.find_frames(TURN) == log.frames_bytes
    assert [event.seq for event in decode_stream(second.store.find_frames(OTHER))] == [1, 2]
    second.die()
    third = Life(engine)
    assert third.store.find_frames(TURN) == log.frames_bytes  # once
    third.die()


def test_what_is_stored_is_not_stored_again(engine):
    """What the file holds begins with frames that the database has, too."""
    first = Life(engine)
    log = first.log()
    first.say(log)
    wait_for(lambda: log.stored_seq == 2, 30, "it is stored", 0.01)
    first.say(log)
    gate = Gate(first.writer)
    first.say(log)
    first.die(gate)
    second = Life(engine)
    assert second.store.find_frames(TURN) == log.frames_bytes
    second.die()


def test_half_is_not_overwritten_before_it_is_stored(engine, monkeypatch):
    """Where both are full text waits for the writer; once one is stored it goes on."""
    monkeypatch.setattr(keeping, "HALF_BYTES", 8192)
    life = Life(engine)
    log = life.log()
    gate = Gate(life.writer)
    shown = 0
    while log.shown_seq > shown:
        shown = log.shown_seq
        life.say(log, "x" * 500)
    assert 20 < shown < 40
    gate.open()
    wait_for(lambda: log.stored_seq == log.last_seq, 30, "all is stored", 0.01)
    gate = Gate(life.writer)
    life.say(log, "y")
    assert log.shown_seq == log.last_seq
    gate.open()
    life.die()


def test_file_with_halves_of_another_length_is_read_whole(engine, monkeypatch):
    """As one that another version has left: what lies in its second half is stored before the file grows."""
    with monkeypatch.context() as patch:
        patch.setattr(keeping, "HALF_BYTES", 8192)
        first = Life(engine)
        log = first.log()
        while first.ahead._half.begins == 0:
            first.say(log, "x" * 500)
            wait_for(lambda: log.stored_seq == log.last_seq, 30, "it is stored", 0.001)
        gate = Gate(first.writer)
        first.say(log, "in the second half")
        first.die(gate)
    second = Life(engine)
    assert second.store.find_frames(TURN) == log.frames_bytes
    second.die()


@pytest.mark.parametrize("damage", [0, 5, 14, 40])
def test_torn_record_ends_what_is_read(engine, tmp_path, damage):
    """What stands behind it was never shown."""
    first = Life(engine)
    log = first.log()
    gate = Gate(first.writer)
    first.say(log, "one")
    begins = first.ahead._half.end
    first.say(log, "two")
    first.say(log, "three")
    first.die(gate)
    path = tmp_path / "deep" / "turns.sqlite-ahead"
    data = bytearray(path.read_bytes())
    data[begins + damage] ^= 0xFF
    path.write_bytes(data)
    second = Life(engine)
    assert [event.seq for event in decode_stream(second.store.find_frames(TURN))] == [1, 2]
    second.die()


def test_second_process_goes_without_and_reads_what_the_first_has_shown(engine, life):
    """One file, one owner. A recovery reads it all the same: the owner may stand still with its lease run out."""
    log = life.log()
    second = AheadFile(engine)
    second.open()
    second.lease(10**6, alone=True)
    assert not second.show(log)
    gate = Gate(life.writer)
    life.say(log, "one")
    taken = []
    reading = threading.Thread(  # it waits for the gate's transaction
        target=lambda: TurnStore(engine).recover_turn(
            TURN, second.read()[TURN], lambda turn: taken.append(turn) or closing_of(turn, INFO, datetime.now(UTC), 0)
        )
    )
    reading.start()
    life.writer._write = lambda *_args, **_more: None
    gate.open()
    reading.join(10)
    assert taken[0].frames == log.frames_bytes
    assert life.store.find_log(TURN).startswith(log.frames_bytes)


@pytest.mark.parametrize("lease", [{"seconds": 0, "alone": True}, {"seconds": 9, "alone": False}])
def test_nothing_is_shown_ahead_where_another_instance_may_close_the_turn(life, lease):
    """Without a lease, and where others are there who may be asked for the turn."""
    log = life.log()
    life.ahead.lease(**lease)
    gate = Gate(life.writer)
    life.say(log)
    assert log.shown_seq == 1
    gate.open()
    wait_for(lambda: log.shown_seq == 2, 30, "it is shown", 0.01)


def test_process_whose_lease_had_run_out_goes_without(life):
    """Its turns may have been closed meanwhile: a lease that is renewed in time is none of those."""
    log = life.log()
    life.ahead.lease(5, alone=True)
    life.now_ns += 4 * 10**9
    life.ahead.lease(5, alone=True)
    gate = Gate(life.writer)
    life.say(log)
    assert log.shown_seq == 2
    life.now_ns += 6 * 10**9
    life.ahead.lease(5, alone=True)
    life.say(log)
    assert log.shown_seq == 2
    gate.open()


def test_what_was_shown_while_the_database_was_away_is_stored_later(life, monkeypatch):
    """After two seconds viewers get text that is not stored: it stays what has to be."""
    monkeypatch.setattr(writing, "GIVE_UP_S", 0.1)
    log = life.log()
    stored = writing.store_frames

    def away(*_):
        raise OperationalError("insert", {}, Exception("the database is away"))

    monkeypatch.setattr(writing, "store_frames", away)
    life.say(log)
    log.append(chunk(3))
    wait_for(lambda: log.shown_seq == 3, 30, "it is shown", 0.01)
    time.sleep(3 * writing.LEISURE_S)  # it is tried, and tried again
    monkeypatch.setattr(writing, "store_frames", stored)
    wait_for(lambda: log.stored_seq == 3, 30, "it is stored", 0.01)
    assert life.store.find_frames(TURN) == log.frames_bytes


def test_file_that_cannot_be_read_holds_up_no_recovery(engine, tmp_path):
    """It is said, and a recovery goes on from what is stored."""
    (tmp_path / "deep" / "turns.sqlite-ahead").mkdir()
    ahead = AheadFile(engine)
    ahead.open()
    assert ahead.read() == {}


def test_log_that_ends_without_a_terminal_is_stored_as_far_as_it_was_shown(life):
    """The terminal's commit failed: the turn's recovery follows what viewers have seen."""
    log = life.log()
    gate = Gate(life.writer)
    life.say(log)
    log.append(chunk(3))
    log.seal()
    log.close()
    gate.open()
    wait_for(lambda: log.stored_seq == 2, 30, "it is stored", 0.01)
    assert [event.seq for event in decode_stream(life.store.find_frames(TURN))] == [1, 2]


def test_half_is_free_once_its_turns_have_ended(life):
    """A terminal is stored with the whole log."""
    log = life.log()
    gate = Gate(life.writer)
    life.say(log)
    assert not life.ahead._half.is_stored()
    log.append(error(3))
    assert life.ahead._half.is_stored()
    gate.open()


def test_full_disk_costs_time_only(engine, monkeypatch):
    """A file that has no place on the disk is not written to."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    life = Life(engine)
    log = life.log()
    life.say(log)
    wait_for(lambda: log.stored_seq == 2, 30, "it is shown once it is stored", 0.01)
    life.die()


def test_database_on_a_server_has_no_file():
    """Other instances read the text from there, as soon as it is stored."""
    ahead = AheadFile(open_engine("postgresql+psycopg://nobody@127.0.0.1:1/nowhere"))
    ahead.open()
    ahead.lease(10**6, alone=True)
    log = TurnLog(TURN, 10_000, lambda _: None)
    log.append(ack())
    assert not ahead.show(log)
    assert log.shown_seq == 0
