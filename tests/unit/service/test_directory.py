"""Turns in memory: found while they run, and for a while afterwards."""

from types import SimpleNamespace

import pytest

from service.directory import TurnDirectory


class Clock:
    now_s = 0

    def mono_ns(self):
        return self.now_s * 1_000_000_000


def turn(name, size=10):
    return SimpleNamespace(turn_id=name, log=SimpleNamespace(size_bytes=size))


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def directory(clock):
    return TurnDirectory(clock, 60, max_bytes=100, max_ended=5)


def put(directory, *turns):
    for one in turns:
        directory.add(one)
        directory.end(one, keep=True)


def test_running_turns_are_found_and_listed(directory):
    """From its beginning to its end a turn is there; one that is not kept is gone at once."""
    one = turn("a")
    directory.add(one)
    assert (directory.find("a"), directory.running()) == (one, [one])
    directory.end(one, keep=False)
    assert (directory.find("a"), directory.running()) == (None, [])


def test_ended_turns_leave_by_age(directory, clock):
    """After the retention a turn is no longer held."""
    put(directory, turn("a"))
    clock.now_s = 60
    assert directory.find("a")
    clock.now_s = 61
    assert directory.find("a") is None


def test_ended_turns_leave_by_number_and_by_bytes(directory):
    """The oldest go first, beyond the number and beyond the memory that they may take."""
    put(directory, *(turn(f"t{n}") for n in range(7)))
    assert [bool(directory.find(f"t{n}")) for n in range(7)] == [False, False, True, True, True, True, True]
    put(directory, turn("large", 95))
    assert [bool(directory.find(name)) for name in ("t5", "t6", "large")] == [False, False, True]
