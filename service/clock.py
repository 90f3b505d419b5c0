"""Time, as the service reads it: injected, so that tests decide what time it is.

A turn's times are one wall-clock anchor and a monotonic distance from it, so that a step of the wall clock cannot bend a duration.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

from msgspec import Struct

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """Where time comes from."""

    def wall_ns(self) -> int:
        """Nanoseconds since 1970, UTC."""
        ...

    def mono_ns(self) -> int:
        """Nanoseconds on a clock that never goes back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    wall_ns = staticmethod(time.time_ns)
    mono_ns = staticmethod(time.monotonic_ns)


class Anchor(Struct, frozen=True):
    """The moment at which a turn was accepted, on both clocks."""

    wall_ns: int
    mono_ns: int

    @classmethod
    def of(cls, clock: Clock) -> Anchor:
        """The present moment."""
        return cls(clock.wall_ns(), clock.mono_ns())

    @property
    def at(self) -> datetime:
        """The anchor as a time, UTC."""
        return as_datetime(self.wall_ns)


def as_datetime(wall_ns: int) -> datetime:
    """A UTC time with microseconds, rounded down."""
    seconds, ns = divmod(wall_ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=ns // 1000)


def as_ns(time: datetime) -> int:
    """Nanoseconds since 1970 of a time with a zone, to the microsecond that a datetime holds."""
    delta = time - _EPOCH
    return ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1000
