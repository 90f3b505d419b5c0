"""Stage timings, derived from a turn's transitions.

Pure. Each stage is the sum of the stays in its states, rounded down to whole milliseconds, so that stages never add up to more than
the total. A stage that did not run is absent.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from lastword.events import Timings
from lastword.states import STAGE_OF, Stage
from service.turn.machine import Interval

NS_PER_MS = 1_000_000

_FIELD_OF_STAGE = {
    Stage(info.encode_name): info.name for info in msgspec.structs.fields(Timings) if info.encode_name in set(Stage)
}


def stage_ns(intervals: Iterable[Interval]) -> dict[Stage, int]:
    """Nanoseconds spent in each stage that ran, in the order in which they first ran."""
    spent: dict[Stage, int] = {}
    for interval in intervals:
        stage = STAGE_OF.get(interval.state)
        if stage is not None:
            spent[stage] = spent.get(stage, 0) + interval.duration_ns
    return spent


def stage_timings(intervals: Iterable[Interval], *, first_token_ns: int | None, total_ns: int) -> Timings:
    """`stageTimings` of a terminal. `first_token_ns` and `total_ns` count from acceptance."""
    stages = {_FIELD_OF_STAGE[stage]: ns // NS_PER_MS for stage, ns in stage_ns(intervals).items()}
    first_token_ms = None if first_token_ns is None else first_token_ns // NS_PER_MS
    return Timings(**stages, first_token_ms=first_token_ms, total_ms=total_ns // NS_PER_MS)
