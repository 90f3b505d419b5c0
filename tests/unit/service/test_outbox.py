"""The outbox: a record is sent until it is acknowledged."""

import random
import threading

import pytest

from service.outbox import Answer, Outbox
from service.store.engine import migrate, open_engine
from service.store.store import TurnStore
from tests.support.product import wait_for
from tests.unit.service.test_store import new_turn, record

TAKEN, LATER, NEVER = Answer(acknowledged=True), Answer(acknowledged=False), Answer(acknowledged=False, refused="bad")


@pytest.fixture
def store(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path}/turns.sqlite")
    migrate(engine)
    store = TurnStore(engine)
    yield store
    store.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr("service.outbox.BACKOFF_BASE_S", 0.01)
    monkeypatch.setattr("service.outbox.IDLE_S", 0.05)


def fill(store, count):
    for n in range(count):
        store.accept_turn(new_turn(f"t{n}"), record(f"t{n}"))


def empty(store):
    return store.outbox_depth()[0] == 0


def test_records_are_sent_again_until_they_are_acknowledged(store):
    """A collector that is away costs time, not records; each is forgotten only after its acknowledgement."""
    answers, sent = [LATER, LATER, TAKEN], []

    def send(records):
        sent.append([one.turn_id for one in records])
        return answers.pop(0) if answers else TAKEN

    fill(store, 3)
    outbox = Outbox(store, send, random.Random(1))
    wait_for(lambda: empty(store), 30, "all records are sent")
    outbox.close(5)
    assert sent[:3] == [["t0", "t1", "t2"]] * 3
    assert outbox.sent == 3


def test_one_bad_record_does_not_hold_up_the_others(store):
    """A batch that is refused is sent one by one: the bad record is set aside with its reason."""

    def send(records):
        return NEVER if any(one.turn_id == "t1" for one in records) else TAKEN

    fill(store, 3)
    outbox = Outbox(store, send, random.Random(1))
    wait_for(lambda: empty(store), 30, "the good records are sent")
    outbox.close(5)
    assert (outbox.sent, outbox.refused, store.outbox_depth()[:2]) == (2, 1, (0, 1))


def test_wake_sends_at_once_and_close_sends_what_is_left(store):
    """A record that comes while the sender sleeps is sent when it is told; the last ones at the end."""
    seen = threading.Semaphore(0)

    def send(_records):
        seen.release()
        return TAKEN

    outbox = Outbox(store, send, random.Random(1))
    fill(store, 1)
    outbox.wake()
    assert seen.acquire(timeout=5)
    store.accept_turn(new_turn("last"), record("last"))
    outbox.close(5)
    assert empty(store)


def test_close_is_bounded_while_the_collector_hangs(store):
    """A collector that never answers does not keep the process from ending; the record stays for the next one."""
    gate = threading.Event()

    def send(_records):
        gate.wait(10)
        return LATER

    fill(store, 1)
    outbox = Outbox(store, send, random.Random(1))
    outbox.close(0.1)
    gate.set()
    outbox.close(5)
    assert not empty(store)
