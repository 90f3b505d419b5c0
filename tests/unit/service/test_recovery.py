"""Turns that a dead process left open: each is closed once, from what is stored of it."""

from datetime import UTC, datetime, timedelta

import pytest

from lastword.events import Chunk, Done, Error, Reason
from lastword.grammar import TurnGrammar
from lastword.wire import decode_stream
from service.log import TurnLog
from service.recovery import recover
from service.store.bus import Bus
from service.store.engine import migrate, open_engine
from service.store.instances import InstanceStore
from service.store.store import TurnStore
from service.store.writer import InlineWriter
from tests.unit.service.test_log import INFO, TURN, ack, chunk
from tests.unit.service.test_store import end, new_turn, record

NOW = datetime.now(UTC)


class World:
    """One database and the instances on it."""

    def __init__(self, folder):
        self.engine = open_engine(f"sqlite:///{folder}/turns.sqlite")
        migrate(self.engine)
        self.writer = InlineWriter(self.engine)
        self.store = TurnStore(self.engine, self.writer)
        self.bus = Bus(self.engine)

    def instance(self, name):
        return InstanceStore(self.engine, self.writer, self.bus, name)

    def leave_open(self, *events, turn_id=TURN, owner="dead", key=None):
        turn = new_turn(turn_id, key)
        self.store.accept_turn(
            type(turn)(**{**{f: getattr(turn, f) for f in turn.__struct_fields__}, "owner": owner, "question": "why?"}),
            record(turn_id),
        )
        log = TurnLog(turn_id, 10_000, self.store.save_frames)
        for event in events:
            log.append(event)
        return log

    def recover(self, *turn_ids):
        return recover(self.store, list(turn_ids or [TURN]), kept={}, info=INFO, now=NOW)


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.engine.dispose()


def test_turn_that_had_shown_text_is_closed_as_partial(world):
    """Its log goes on where it broke off, to a done that says what was shown and why there is no more."""
    before = world.leave_open(ack(), chunk(2, "half "), chunk(3, "an answer")).frames_bytes
    assert world.recover() == 1
    after = world.store.find_log(TURN)
    assert after.startswith(before)
    grammar = TurnGrammar()
    for event in decode_stream(after):
        grammar.feed(event)
    done = grammar.terminal
    assert isinstance(done, Done)
    assert (done.seq, done.metadata.answer, done.metadata.chunk_count) == (4, "half an answer", 2)
    assert (done.metadata.completion_status, done.metadata.partial, done.metadata.reason) == (
        "interrupted",
        True,
        Reason.SERVER_CRASH,
    )
    assert done.metadata.recovered
    assert not done.metadata.usage.complete
    assert [(m.role, m.text, m.partial) for m in world.store.messages("v", 5)] == [
        ("user", "why?", False),
        ("assistant", "half an answer", True),
    ]
    assert world.store.find_frames(TURN) == b""


def test_turn_that_had_shown_nothing_may_be_asked_again(world):
    """An error that is retryable; nothing is added to the conversation."""
    world.leave_open(ack())
    assert world.recover() == 1
    error = decode_stream(world.store.find_log(TURN))[-1]
    assert isinstance(error, Error)
    assert (error.code, error.retryable, error.metadata.recovered) == ("server_crash", True, True)
    assert world.store.messages("v", 5) == []


def test_turn_without_ack_frees_its_key(world):
    """Nobody was told of it: the client asks again with its key."""
    world.leave_open(key="k")
    assert world.recover() == 1
    assert (world.store.find_turn(TURN).state, world.store.find_log(TURN)) == ("error", b"")
    world.store.accept_turn(new_turn("trn_" + "1" * 32, "k"), record())


def test_turn_is_recovered_once_and_recorded_once(world):
    """Several instances may recover at a time; the first closes the turn, and one record tells of it."""
    world.leave_open(ack(), chunk(2))
    assert [world.recover(), world.recover()] == [1, 0]
    assert [r.event_name for r in world.store.pending_records(9)] == ["turn.accepted", "turn.done"]
    assert not end(world.store, TURN), "the process that came back cannot end it a second time"


def test_record_of_a_recovered_turn_holds_no_content_unless_it_is_captured(world):
    """As for every other turn."""
    world.leave_open(ack(), chunk(2, "half"))
    world.recover()
    body = world.store.pending_records(9)[-1].body
    assert "half" not in body
    assert '"answerChars":4' in body
    assert '"recovered":true' in body


def test_open_turn_belongs_to_its_instance_while_that_lives(world):
    """A lease that is renewed keeps turns; one that ran out gives them up."""
    first, second = world.instance("first"), world.instance("second")
    world.leave_open(ack(), owner="first")
    first.renew(30)
    second.renew(30)
    assert (second.orphans(), world.bus.peers) == ([], 1)
    first.renew(-1)
    assert second.orphans() == [TURN]
    assert first.orphans() == [], "an instance does not take its own turns for orphans"


def test_killed_process_is_known_to_be_dead_before_its_lease_ends(world):
    """On one machine a look at the process tells."""
    first, second = world.instance("first"), world.instance("second")
    first._process = "1 0"  # a process of this id lives, and began at another time
    world.leave_open(ack(), owner="first")
    first.renew(3600)
    assert second.orphans() == [TURN]


def test_instance_that_left_is_forgotten(world):
    """An orderly end gives the lease up."""
    first, second = world.instance("first"), world.instance("second")
    first.renew(30)
    second.renew(30)
    first.leave()
    second.renew(30)
    assert world.bus.peers == 0


def test_cancel_and_watch_reach_the_owner(world):
    """What one instance asks of another stands with the turn."""
    first, second = world.instance("first"), world.instance("second")
    world.leave_open(ack(), owner="first")
    assert (first.asked_to_cancel(), first.is_watched(TURN)) == ([], False)
    second.ask_to_cancel(TURN)
    second.keep_watched([TURN], 30)
    assert (first.asked_to_cancel(), second.asked_to_cancel(), first.is_watched(TURN)) == ([TURN], [], True)
    second.keep_watched([TURN], -1)
    assert not first.is_watched(TURN)


def test_old_logs_go_and_their_turns_stay_longer(world):
    """First the events, later the rest; a record that waits for the collector keeps its turn."""
    instance = world.instance("first")
    world.leave_open(ack(), chunk(2))
    recover(world.store, [TURN], kept={}, info=INFO, now=NOW - timedelta(hours=2))
    assert instance.expire_logs(3 * 3600) == 0
    assert instance.expire_logs(3600) == 1
    assert (world.store.find_log(TURN), world.store.find_turn(TURN).state) == (None, "done")
    assert instance.expire_turns(3600) == 0
    world.store.forget_records([r.record_id for r in world.store.pending_records(9)])
    assert instance.expire_turns(3600) == 1
    assert world.store.find_turn(TURN) is None


def test_frames_tell_how_long_the_turn_was_alive(world):
    """The total is its last sign of life, not the hours until somebody closed it."""
    late = Chunk(turn_id=TURN, seq=3, t_ms=700, text="b")
    world.leave_open(ack(), Chunk(turn_id=TURN, seq=2, t_ms=200, text="a"), late)
    world.recover()
    timings = decode_stream(world.store.find_log(TURN))[-1].metadata.stage_timings
    assert (timings.first_token_ms, timings.stream_ms, timings.total_ms) == (200, 500, 700)
