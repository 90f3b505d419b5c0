"""Rate limits, quotas and usage. On SQLite always; on PostgreSQL in the integration tests."""

import threading
from datetime import UTC, date, datetime, timedelta

import pytest

from lastword.events import Usage
from service.access.grants import Grant, Limits
from service.access.limits import OverLimit, take_turn
from service.access.usage import add_usage, tokens_of_day, usage_by_day
from service.store.engine import open_engine
from service.store.store import DuplicateKey, EndedTurn, TurnStore
from tests.unit.service.test_store import new_turn, record

S = 1_000_000_000
NOW = datetime(2026, 1, 2, 23, 59, 30, tzinfo=UTC)
NOW_NS = round(NOW.timestamp()) * S


def grant(rate=None, tokens=None, caller="c"):
    return Grant(caller=caller, limits=Limits(turns_per_minute=rate, tokens_per_day=tokens))


def take(engine, who, now_ns=NOW_NS):
    with engine.begin() as connection:
        take_turn(connection, who, now_ns)


def wait_of(engine, who, now_ns=NOW_NS):
    """Seconds that the refused caller is told to wait."""
    with pytest.raises(OverLimit) as over:
        take(engine, who, now_ns)
    return over.value.retry_after_s


def claim(engine, who, turn_id, key=None, now_ns=NOW_NS):
    TurnStore(engine).accept_turn(
        new_turn(turn_id, key), record(turn_id), lambda connection: take_turn(connection, who, now_ns)
    )


def test_bucket_holds_a_minute_and_refills_evenly(engine):
    """Three at once, then one every twenty seconds; after a long rest three again, and not more."""
    who = grant(rate=3)
    for _ in range(3):
        take(engine, who)
    assert wait_of(engine, who) == 20
    assert wait_of(engine, who, NOW_NS + 19 * S + 1) == 1
    take(engine, who, NOW_NS + 20 * S)
    assert wait_of(engine, who, NOW_NS + 20 * S) == 20
    for _ in range(3):
        take(engine, who, NOW_NS + 3600 * S)
    assert wait_of(engine, who, NOW_NS + 3600 * S) == 20


def test_waiting_as_long_as_told_is_enough(engine):
    """Whoever waits for the seconds of Retry-After gets a turn, at rates that divide a minute and at others."""
    for rate in (1, 7, 59, 1000):
        who, now_ns = grant(rate=rate, caller=f"c{rate}"), NOW_NS
        for _ in range(rate):
            take(engine, who, now_ns)
        for _ in range(5):
            now_ns += wait_of(engine, who, now_ns) * S
            take(engine, who, now_ns)
            for _ in range(rate):
                try:
                    take(engine, who, now_ns)
                except OverLimit:
                    break


def test_clock_that_steps_back_gives_nothing_away(engine):
    """An instance whose clock is ten seconds behind waits those ten seconds for what the bucket holds."""
    who = grant(rate=2)
    take(engine, who, NOW_NS + 10 * S)
    assert wait_of(engine, who, NOW_NS) == 10
    take(engine, who, NOW_NS + 10 * S)
    assert wait_of(engine, who, NOW_NS) == 40


def test_callers_have_buckets_of_their_own(engine):
    """One caller's haste is not another's wait; a caller without a limit has no bucket."""
    take(engine, grant(rate=1, caller="a"))
    take(engine, grant(rate=1, caller="b"))
    for _ in range(3):
        take(engine, grant(caller="c"))
    assert wait_of(engine, grant(rate=1, caller="a")) == 60


def test_replay_costs_nothing(engine):
    """A claim that finds its idempotency key taken leaves the bucket as it was."""
    who = grant(rate=2)
    claim(engine, who, "t1", key="k")
    for _ in range(5):
        with pytest.raises(DuplicateKey):
            claim(engine, who, "t2", key="k")
    claim(engine, who, "t3")
    with pytest.raises(DuplicateKey):  # with an empty bucket too
        claim(engine, who, "t2", key="k")


def test_refused_claim_stores_nothing(engine):
    """Neither the turn nor its record is there, and its key is free."""
    who = grant(rate=1)
    claim(engine, who, "t1")
    with pytest.raises(OverLimit):
        claim(engine, who, "t2", key="k")
    store = TurnStore(engine)
    assert store.find_turn("t2") is None
    assert [kept.turn_id for kept in store.pending_records(10)] == ["t1"]
    claim(engine, who, "t2", key="k", now_ns=NOW_NS + 60 * S)


def test_limit_is_exact_for_many_threads_and_two_engines(engine):
    """Forty claims at once through two engines on one database: as many get through as the bucket holds."""
    second = open_engine(engine.url.render_as_string(hide_password=False))
    outcomes = []
    start = threading.Barrier(40)

    def one(number):
        start.wait(30)
        try:
            claim((engine, second)[number % 2], grant(rate=13), f"t{number}")
            outcomes.append("taken")
        except OverLimit:
            outcomes.append("refused")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    second.dispose()
    assert (outcomes.count("taken"), outcomes.count("refused")) == (13, 27)


def test_quota_of_the_day_is_used_up_and_comes_back_at_midnight(engine):
    """Tokens in and out count, those of a cache too; the wait ends with the UTC day."""
    who = grant(tokens=100)
    usage = Usage(input_tokens=60, output_tokens=30, cache_read_tokens=5, cache_write_tokens=4)
    with engine.begin() as connection:
        add_usage(connection, "c", NOW, usage)
    take(engine, who)
    with engine.begin() as connection:
        add_usage(connection, "c", NOW, Usage(output_tokens=1))
    assert wait_of(engine, who) == 30
    take(engine, who, NOW_NS + 30 * S)
    take(engine, grant(tokens=100, caller="d"))


def test_usage_is_summed_over_processes_and_kept_by_day(engine):
    """Each process counts in rows of its own; a reader sees the sum."""
    with engine.begin() as connection:
        add_usage(connection, "c", NOW, Usage(input_tokens=3, output_tokens=2), shard="one")
        add_usage(connection, "c", NOW, Usage(input_tokens=10), shard="two")
        add_usage(connection, "c", NOW, Usage(input_tokens=10), shard="two")
        add_usage(connection, "c", NOW + timedelta(minutes=1), Usage(output_tokens=7))
        add_usage(connection, "d", NOW, Usage())
        assert tokens_of_day(connection, "c", NOW.date()) == 25
    rows = [
        (row.day.day, row.caller, row.turns, row.input_tokens, row.output_tokens)
        for row in usage_by_day(engine, since=NOW.date())
    ]
    assert rows == [(3, "c", 1, 0, 7), (2, "c", 3, 23, 2), (2, "d", 1, 0, 0)]
    assert [row.day for row in usage_by_day(engine, since=date(2026, 1, 3), caller="c")] == [date(2026, 1, 3)]


def end(engine, turn_id, usage, last_seq=3):
    closed = EndedTurn(turn_id=turn_id, state="done", ended_at=NOW, last_seq=last_seq, terminal="{}", frames=b"f", usage=usage)
    return TurnStore(engine).end_turn(
        turn_id, caller="c", conversation_id="v", messages=[], close=lambda: (closed, record(turn_id, "turn.done"))
    )


def test_usage_is_counted_once_with_the_terminal(engine):
    """The transaction that ends a turn counts it; a second end counts nothing, nor does a turn without `ack`."""
    for turn_id in ("t1", "t2"):
        claim(engine, grant(), turn_id)
    assert end(engine, "t1", Usage(input_tokens=4, output_tokens=6))
    assert not end(engine, "t1", Usage(input_tokens=4, output_tokens=6))
    assert end(engine, "t2", Usage(), last_seq=0)
    assert [(row.turns, row.input_tokens, row.output_tokens) for row in usage_by_day(engine, since=NOW.date())] == [(1, 4, 6)]
