"""The store: every method one transaction. On SQLite always; on PostgreSQL in the integration tests."""

import threading
from datetime import UTC, datetime

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from service.store.data import DuplicateKey, EndedTurn, Message, NewTurn, Record
from service.store.engine import StoreError, migrate
from service.store.models import Base
from service.store.store import TurnStore

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)


@pytest.fixture
def store(engine):
    return TurnStore(engine)


def new_turn(turn_id="t1", key=None):
    return NewTurn(
        turn_id=turn_id,
        caller="c",
        conversation_id="v",
        trace_id="a" * 32,
        accepted_at=NOW,
        deadline_ms=1000,
        idempotency_key=key,
        payload_sha256="0" * 64,
        labels={"k": "v"},
    )


def record(turn_id="t1", name="turn.accepted"):
    return Record(event_name=name, turn_id=turn_id, trace_id="a" * 32, span_id="b" * 16, time_ns=7, body="{}")


def ended(turn_id="t1", state="done"):
    return EndedTurn(turn_id=turn_id, state=state, ended_at=NOW, last_seq=3, terminal='{"x":1}', frames=b"frames")


def message(role, words):
    return Message(role=role, text=words, turn_id="t1", partial=False, created_at=NOW)


def end(store, turn_id="t1", messages=(), close=None):
    return store.end_turn(
        turn_id,
        caller="c",
        conversation_id="v",
        messages=list(messages),
        close=close or (lambda: (ended(turn_id), record(turn_id, "turn.done"))),
    )


def test_migrations_lead_to_the_models(engine):
    """A database made by the migrations is the one that the models describe."""
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_migrate_refuses_a_database_of_a_newer_version(engine):
    """An unknown revision is refused, not guessed at."""
    with engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = 'from-the-future'"))
    with pytest.raises(StoreError, match="from-the-future"):
        migrate(engine)


def test_turn_is_ended_once(store):
    """The first terminal wins; the second stores nothing, not even its messages and record."""
    store.accept_turn(new_turn(), record())
    assert end(store, messages=[message("user", "q"), message("assistant", "a")])
    assert not end(store, messages=[message("user", "again")], close=lambda: (ended(state="error"), record(name="turn.done")))
    stored = store.find_turn("t1")
    assert (stored.state, stored.terminal, stored.last_seq, stored.ended_at) == ("done", '{"x":1}', 3, NOW)
    assert [m.text for m in store.messages("v", 10)] == ["q", "a"]
    assert store.find_log("t1") == b"frames"
    assert [r.event_name for r in store.pending_records(10)] == ["turn.accepted", "turn.done"]


def test_a_log_is_kept_compressed_and_read_as_it_was(store, engine):
    """Frames repeat themselves; a log that was stored before logs were compressed is read too."""
    frames = b"".join(b'event: chunk\nid: t1.%d\ndata: {"seq":%d,"text":"word %d"}\n\n' % (n, n, n * n) for n in range(500))
    store.accept_turn(new_turn(), record())
    end(store, close=lambda: (msgspec.structs.replace(ended(), frames=frames), record(name="turn.done")))
    assert store.find_log("t1") == frames
    size = text("SELECT length(frames) FROM turn_logs")
    with engine.begin() as connection:
        assert connection.scalar(size) < len(frames) / 4
        connection.execute(text("UPDATE turn_logs SET frames = :frames"), {"frames": frames})
        assert connection.scalar(size) == len(frames)
    assert store.find_log("t1") == frames


def test_many_threads_end_one_turn_once(store):
    """Sixteen threads that race to end a turn: one wins."""
    store.accept_turn(new_turn(), record())
    wins = []
    threads = [threading.Thread(target=lambda: wins.append(end(store))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert (wins.count(True), len(wins)) == (1, 16)


def test_idempotency_key_names_the_turn_that_has_it(store):
    """A key that is taken stores nothing and tells whose it is; other callers' keys are their own."""
    store.accept_turn(new_turn("t1", "k"), record())
    with pytest.raises(DuplicateKey) as caught:
        store.accept_turn(new_turn("t2", "k"), record("t2"))
    assert caught.value.existing.turn_id == "t1"
    assert store.find_turn("t2") is None
    assert len(store.pending_records(10)) == 1


def test_a_turn_without_a_key_is_nobody_s_double(store):
    """What else the database refuses is an error: the caller's other turns without a key have nothing to do with it."""
    store.accept_turn(new_turn("t1"), record())
    with pytest.raises(IntegrityError):
        store.accept_turn(new_turn("t1"), record())


def test_a_key_that_is_freed_while_its_turn_is_looked_for_is_the_new_turn_s(engine, monkeypatch):
    """The turn that had the key was never acknowledged and ends (closed by a recovery, say) between the refusal and the look."""
    store = TurnStore(engine)
    store.accept_turn(new_turn("t1", "k"), record())
    look = store._by_key

    def after_its_end(*names):
        unseen = EndedTurn(turn_id="t1", state="error", ended_at=NOW, last_seq=0, terminal="{}", frames=b"")
        end(store, close=lambda: (unseen, record(name="turn.done")))
        monkeypatch.setattr(store, "_by_key", look)
        return look(*names)

    monkeypatch.setattr(store, "_by_key", after_its_end)
    store.accept_turn(new_turn("t2", "k"), record("t2"))
    assert store.find_turn("t2").state == "open"
    with pytest.raises(DuplicateKey) as caught:
        store.accept_turn(new_turn("t3", "k"), record("t3"))
    assert caught.value.existing.turn_id == "t2"


def test_a_failed_close_stores_nothing(store):
    """The terminal, its messages and its record stand or fall together."""
    store.accept_turn(new_turn(), record())

    def broken():
        raise RuntimeError("no terminal")

    with pytest.raises(RuntimeError):
        end(store, messages=[message("user", "q")], close=broken)
    assert store.find_turn("t1").state == "open"
    assert store.messages("v", 10) == []


def test_outbox_keeps_records_until_they_are_forgotten(store):
    """Acknowledged records go; refused ones stay aside with their reason."""
    for n in range(3):
        store.accept_turn(new_turn(f"t{n}"), record(f"t{n}"))
    first, second, third = store.pending_records(10)
    store.forget_records([first.record_id])
    store.refuse_records([second.record_id], "because")
    assert [r.turn_id for r in store.pending_records(10)] == [third.turn_id]
    assert store.outbox_depth() == (1, 1, 7)


def test_messages_are_the_newest_oldest_first(store):
    """A long conversation is cut at its beginning."""
    store.accept_turn(new_turn(), record())
    end(store, messages=[message("user", str(n)) for n in range(5)])
    assert [m.text for m in store.messages("v", 3)] == ["2", "3", "4"]
    assert store.conversation_owner("v") == "c"
    assert store.conversation_owner("other") is None


def test_key_of_a_turn_that_was_never_acknowledged_is_free_again(store):
    """A client that was told 500 before `ack` may ask again with its key."""
    store.accept_turn(new_turn("t1", "k"), record())
    nothing = EndedTurn(turn_id="t1", state="error", ended_at=NOW, last_seq=0, terminal="{}", frames=b"")
    assert end(store, close=lambda: (nothing, record(name="turn.done")))
    store.accept_turn(new_turn("t2", "k"), record("t2"))
    assert store.find_turn("t2").state == "open"
