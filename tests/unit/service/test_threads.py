"""Workers, watchdog and control: the threads around a turn."""

import threading
import time

import pytest

from service import workers
from service.clock import SystemClock
from service.control import TurnControl
from service.turn.failures import AttemptFailed, FailureKind
from service.watchdog import Watchdog
from service.workers import WorkerPool
from tests.support.product import wait_for

SECONDS = 1_000_000_000


@pytest.fixture
def watchdog():
    dog = Watchdog(SystemClock())
    yield dog
    dog.close()


def test_pool_works_where_a_thread_may_not_choose_its_scheduling(monkeypatch):
    """Some systems and sandboxes forbid it."""

    def forbidden(_):
        raise PermissionError

    monkeypatch.setattr(workers.os, "sched_getscheduler", forbidden)
    done = threading.Event()
    pool = WorkerPool(1)
    assert pool.try_start(done.set, "a")
    assert done.wait(10)
    assert pool.close(1) == 0


def test_pool_admits_no_more_than_its_capacity():
    """Beyond the capacity nothing is started and nothing waits; a finished worker makes room."""
    pool = WorkerPool(2)
    gate = threading.Event()
    done = threading.Semaphore(0)

    def work():
        gate.wait(10)
        done.release()

    assert pool.try_start(work, "a")
    assert pool.try_start(work, "b")
    assert not pool.try_start(work, "c")
    gate.set()
    assert done.acquire(timeout=10)
    assert done.acquire(timeout=10)
    assert pool.close(10) == 0
    assert not pool.try_start(work, "d")


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit])
def test_pool_outlives_a_worker_that_raises(caplog, error):
    """An error inside one worker is logged, and its place is free again."""
    pool = WorkerPool(1)
    ran = threading.Event()

    def fail():
        raise error

    assert pool.try_start(fail, "a")
    wait_for(lambda: pool.active == 0, 30, "it has ended", 0.001)
    assert pool.try_start(ran.set, "b")
    assert ran.wait(10)
    assert pool.close(10) == 0
    assert error.__name__ in caplog.text


def test_pool_never_waits_for_a_thread_and_keeps_none(monkeypatch):
    """A thread takes the next turn that comes soon; while one cannot be started work waits without its caller; none is left when all is quiet."""
    monkeypatch.setattr(workers, "IDLE_S", 1.0)  # long enough for a busy machine
    pool = WorkerPool(8)
    seen = []
    ran = threading.Semaphore(0)

    def work():
        seen.append(threading.get_ident())
        ran.release()

    for _ in range(3):
        assert pool.try_start(work, "a")
        assert ran.acquire(timeout=10)
        wait_for(lambda: pool.active == 0, 30, "it has ended", 0.001)
    assert len(set(seen)) == 1
    wait_for(lambda: pool._threads == 0, 30, "the thread has ended", 0.01)
    monkeypatch.setattr(workers, "RETRY_S", 0.01)
    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        assert pool.try_start(work, "b")
        assert not ran.acquire(timeout=0.1)
    assert ran.acquire(timeout=10)
    assert pool.close(10) == 0


def refuse(_thread):
    raise RuntimeError("can't start new thread")


def test_watchdog_calls_back_once_when_due(watchdog):
    """A watch that is due fires."""
    fired = threading.Semaphore(0)
    watchdog.watch(SystemClock().mono_ns() + SECONDS // 50, fired.release)
    assert fired.acquire(timeout=5)
    assert not fired.acquire(timeout=0.05)


def test_watchdog_honours_a_watch_that_was_moved_or_cancelled(watchdog):
    """A watch moved on does not fire at its old time; a cancelled one never does."""
    late, fired = threading.Semaphore(0), []
    now = SystemClock().mono_ns()
    moved = watchdog.watch(now + SECONDS // 50, lambda: fired.append("moved"))
    moved.due_ns = now + 3600 * SECONDS
    watchdog.watch(now + SECONDS // 50, lambda: fired.append("cancelled")).cancel()
    watchdog.watch(now + SECONDS // 10, late.release)
    assert late.acquire(timeout=5)
    assert fired == []


def test_watchdog_is_in_time_for_what_is_due_sooner_than_all_before(watchdog):
    """The thread sleeps until the first deadline: a later one lets it sleep, a sooner one wakes it."""
    fired = threading.Semaphore(0)
    now = SystemClock().mono_ns()
    watchdog.watch(now + 3600 * SECONDS, fired.release)
    time.sleep(0.05)  # it sleeps
    watchdog.watch(now + 7200 * SECONDS, fired.release)
    watchdog.watch(SystemClock().mono_ns() + SECONDS // 50, fired.release)
    assert fired.acquire(timeout=10)


def test_watchdog_outlives_a_callback_that_raises(watchdog, caplog):
    """One bad callback does not end the watch over all turns."""
    fired = threading.Semaphore(0)
    now = SystemClock().mono_ns()
    watchdog.watch(now, lambda: 1 / 0)
    watchdog.watch(now + 1, fired.release)
    assert fired.acquire(timeout=5)
    assert "ZeroDivisionError" in caplog.text


class Call:
    def __init__(self):
        self.aborts = 0

    def abort(self):
        self.aborts += 1


def test_control_stop_aborts_the_call_and_the_first_stop_wins():
    """A stop wakes the blocked reader; a second one changes nothing."""
    control, call = TurnControl(), Call()
    control.enter(call)
    assert control.stop(FailureKind.CANCELLED)
    assert not control.stop(FailureKind.SHUTDOWN)
    assert (call.aborts, control.stopped) == (1, FailureKind.CANCELLED)
    with pytest.raises(AttemptFailed, match="cancelled"):
        control.check()


def test_control_interrupt_ends_one_try_only():
    """An interrupt belongs to the try that it names; the next one begins afresh, and a late interrupt does not reach it."""
    control, call = TurnControl(), Call()
    first = control.begin_attempt()
    control.enter(call)
    control.interrupt(FailureKind.STALL_TIMEOUT, first)
    control.interrupt(FailureKind.STALL_TIMEOUT, first)
    assert call.aborts == 1
    with pytest.raises(AttemptFailed, match="stall_timeout"):
        control.check()
    control.leave()
    control.begin_attempt()
    control.interrupt(FailureKind.STALL_TIMEOUT, first)
    control.enter(Call())
    control.check()


def test_control_interrupt_between_two_calls_is_not_lost():
    """A try that is interrupted while no call is open makes no further call."""
    control = TurnControl()
    control.interrupt(FailureKind.FIRST_TOKEN_TIMEOUT, control.begin_attempt())
    with pytest.raises(AttemptFailed, match="first_token_timeout"):
        control.enter(Call())


def test_control_refuses_a_call_after_a_stop():
    """A turn that was stopped between two calls makes no further one."""
    control = TurnControl()
    control.stop(FailureKind.DEADLINE)
    with pytest.raises(AttemptFailed, match="deadline"):
        control.enter(Call())
