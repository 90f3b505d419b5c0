"""The measurements, each over all of its lanes in turn, again and again, so that a noisy machine troubles all of them alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from msgspec import Struct

from benchmarks.service import load, programs
from benchmarks.service.script import SILENT, Script

Tell = Callable[[str], None]


class Size(Struct, frozen=True, kw_only=True):
    """How much is done: rounds over all lanes, turns at a time, pieces a turn."""

    rounds: int = 5
    fast_turns: int = 16
    fast_pieces: int = 3000
    paced_turns: int = 100
    paced_pieces: int = 250
    model_turns: int = 16
    model_pieces: int = 300
    viewers: int = 1000
    waiting: int = 50
    starts: int = 20


QUICK = Size(
    rounds=1,
    fast_turns=4,
    fast_pieces=50,
    paced_turns=4,
    paced_pieces=5,
    model_turns=2,
    model_pieces=20,
    viewers=20,
    waiting=3,
    starts=3,
)
PACE_MS = 20


class Row(Struct, frozen=True, kw_only=True):
    """One lane's figures, by the name of the figure, in its unit; the medians over the rounds."""

    lane: str
    figures: dict[str, float]


class Table(Struct, frozen=True, kw_only=True):
    """A measurement: what was done, its rows, and the turns that were not whole."""

    name: str
    what: str
    rows: list[Row]
    broken: int


def broken_of(seen: list[load.Seen], pieces: int) -> int:
    """How many turns lost something, or did not end as they should."""
    return sum(1 for one in seen if not one.complete or one.chunks != pieces)


def _ask(port: int, script: Script) -> load.Wanted:
    return load.Wanted(port=port, question=script.question)


def _chat(port: int, script: Script) -> load.Wanted:
    """The same question to a proxy that speaks the chat completions protocol."""
    body: dict[str, object] = {"model": "script", "stream": True, "messages": [{"role": "user", "content": script.question}]}
    return load.Wanted(port=port, question="", path="/v1/chat/completions", body=body, chunk=b'"content":"@', end=b"[DONE]")


class _Lane(Struct, frozen=True):
    name: str
    wanted: Callable[[Script], load.Wanted]


def _rounds(lanes: list[_Lane], rounds: int, tell: Tell) -> Iterator[tuple[int, _Lane]]:
    for number in range(rounds):
        for lane in lanes if number % 2 == 0 else reversed(lanes):  # nobody is always the first
            tell(f"round {number + 1} of {rounds}: {lane.name}")
            yield number, lane


def _medians(lanes: list[_Lane], figures: dict[str, list[dict[str, float]]]) -> list[Row]:
    return [
        Row(
            lane=lane.name,
            figures={name: load.median(one[name] for one in figures[lane.name]) for name in figures[lane.name][0]},
        )
        for lane in lanes
    ]


def bridges(size: Size, folder: Path, tell: Tell) -> list[Table]:
    """The ways to bring text from where it is made to a connection: without a pause, and at a model's pace."""
    with ExitStack() as stack:
        collector = stack.enter_context(programs.helper("fake_collector", folder))
        lanes = []
        for name in ("bare", "sse-starlette", "to_thread"):
            server = stack.enter_context(programs.lane(name, folder))
            lanes.append(_Lane(name, lambda script, port=server.port: _ask(port, script)))
        server = stack.enter_context(programs.ours(folder, collector.port))
        lanes.append(_Lane("lastword", lambda script, port=server.port: _ask(port, script)))
        fast = _throughput("no pacing", lanes, Script(size.fast_pieces, 0), size.fast_turns, size.rounds, tell)
        return [fast, _paced(lanes, size, tell)]


def _throughput(name: str, lanes: list[_Lane], script: Script, turns: int, rounds: int, tell: Tell) -> Table:
    """Chunks a second of many turns at a time, without a pause."""
    figures: dict[str, list[dict[str, float]]] = {lane.name: [] for lane in lanes}
    broken = 0
    for _, lane in _rounds(lanes, rounds, lambda text: tell(f"{name}, {text}")):
        seen = asyncio.run(load.together(lane.wanted(script), turns))
        broken += broken_of(seen, script.n)
        figures[lane.name].append({"chunks/s": load.per_second(seen)})
    what = f"{turns} turns at a time of {script.n} chunks, no pacing"
    return Table(name=name, what=what, rows=_medians(lanes, figures), broken=broken)


def _paced(lanes: list[_Lane], size: Size, tell: Tell) -> Table:
    script = Script(size.paced_pieces, PACE_MS)
    figures: dict[str, list[dict[str, float]]] = {lane.name: [] for lane in lanes}
    broken = 0
    for _, lane in _rounds(lanes, size.rounds, lambda text: tell(f"paced, {text}")):
        seen = asyncio.run(load.together(lane.wanted(script), size.paced_turns, over_s=script.n * PACE_MS / 1000))
        broken += broken_of(seen, script.n)
        figures[lane.name].append(_delays(seen))
    what = f"{size.paced_turns} turns of {script.n} chunks at {PACE_MS} ms, begun evenly over the length of one"
    return Table(name="at a model's pace", what=what, rows=_medians(lanes, figures), broken=broken)


def _delays(seen: list[load.Seen]) -> dict[str, float]:
    first = [one.delays_s[0] * 1000 for one in seen if one.delays_s]
    every = [delay * 1000 for one in seen for delay in one.delays_s]
    since = [one.first_s * 1000 - PACE_MS for one in seen]
    return {
        "first chunk p50 ms": load.quantile(first, 0.5),
        "first chunk p99 ms": load.quantile(first, 0.99),
        "first chunk worst ms": max(first),
        "any chunk p50 ms": load.quantile(every, 0.5),
        "any chunk p99 ms": load.quantile(every, 0.99),
        "since request p50 ms": load.quantile(since, 0.5),
        "since request p99 ms": load.quantile(since, 0.99),
    }


def providers(size: Size, folder: Path, tell: Tell) -> list[Table]:
    """The whole way from a model provider over its SDK to the client, beside LiteLLM's proxy."""
    with ExitStack() as stack:
        collector = stack.enter_context(programs.helper("fake_collector", folder))
        model = stack.enter_context(programs.helper("fake_messages", folder))
        tell("starting litellm")
        proxy = stack.enter_context(programs.litellm(folder, model.port))
        settings = {
            "LASTWORD_SERVICE_PROVIDER": "anthropic",
            "LASTWORD_SERVICE_ANTHROPIC_BASE_URL": f"http://127.0.0.1:{model.port}",
            "ANTHROPIC_API_KEY": "none",
        }
        server = stack.enter_context(programs.ours(folder, collector.port, **settings))
        lanes = [
            _Lane("litellm", lambda script: _chat(proxy.port, script)),
            _Lane("lastword", lambda script: _ask(server.port, script)),
        ]
        for lane in lanes:  # what is imported at the first request is not measured
            asyncio.run(load.together(lane.wanted(Script(5, 0)), 2))
        script = Script(size.model_pieces, 0)
        return [_throughput("through the provider", lanes, script, size.model_turns, size.rounds, tell)]


def viewers(size: Size, folder: Path, tell: Tell) -> list[Table]:
    """What a viewer costs who comes back to a turn that has ended: one that reads, and one that takes nothing."""
    with ExitStack() as stack:
        collector = stack.enter_context(programs.helper("fake_collector", folder))
        server = stack.enter_context(programs.ours(folder, collector.port))
        tell("making finished turns")
        script = Script(size.fast_pieces // 12, 0)
        turns = asyncio.run(load.together(_ask(server.port, script), 20))
        broken = broken_of(turns, script.n)
        rows = []
        for name, reading in (("readers", True), ("stuck readers", False)):
            tell(f"{size.viewers} {name}")
            time.sleep(2)
            before = server.memory_bytes()
            server.forget_peak()
            missed = asyncio.run(load.view(server.port, [one.turn_id for one in turns], size.viewers, reading=reading))
            broken += missed
            each = max(0, server.memory_bytes("VmHWM") - before) / size.viewers / 1024
            rows.append(Row(lane=name, figures={"KiB each": each}))
        what = f"{size.viewers} connections resumed in the middle of finished turns of {script.n} chunks; highest memory above the idle process"
        return [Table(name="viewers", what=what, rows=rows, broken=broken)]


def starts(size: Size, folder: Path, tell: Tell) -> list[Table]:
    """How soon a turn begins while others wait for their first token."""
    with ExitStack() as stack:
        collector = stack.enter_context(programs.helper("fake_collector", folder))
        server = stack.enter_context(programs.ours(folder, collector.port))
        tell(f"{size.starts} turns start while {size.waiting} wait")
        waits, broken = asyncio.run(_starts(server.port, size))
        figures = {"ack p50 ms": load.median(waits) * 1000, "ack worst ms": max(waits) * 1000}
        what = f"{size.starts} turns, one after the other, while {size.waiting} wait for their first token: time to `ack`"
        return [Table(name="starts", what=what, rows=[Row(lane="lastword", figures=figures)], broken=broken)]


async def _starts(port: int, size: Size) -> tuple[list[float], int]:
    silent = load.Wanted(port=port, question=SILENT, body={"message": SILENT, "onDisconnect": "cancel"})
    waiting = [asyncio.create_task(load.turn(silent)) for _ in range(size.waiting)]
    await asyncio.sleep(1)
    script = Script(5, 0)
    seen = [await load.turn(_ask(port, script)) for _ in range(size.starts)]
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    return [one.ack_s for one in seen], broken_of(seen, script.n)


SECTIONS: dict[str, Callable[[Size, Path, Tell], list[Table]]] = {
    "bridges": bridges,
    "providers": providers,
    "viewers": viewers,
    "starts": starts,
}
