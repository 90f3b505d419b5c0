"""Flow: silence, slow readers, load, and time that runs out."""

from __future__ import annotations

import time
from itertools import pairwise

from lastword.check.bench import Bench, json_of
from lastword.check.case import Failed, Level, NotTried, case
from lastword.check.cases.resume import expect_status
from lastword.check.exchange import Exchange
from lastword.check.stream import TurnStream

_HEARTBEAT = "contract 5: a comment `: hb` goes out after at most 15 s of silence and never moves the cursor"
_STUCK_VIEWERS = 4
_ENOUGH_BYTES = 8_000_000
_TELLING_BYTES = 6_000_000


def _heartbeat_s(turn: TurnStream) -> float:
    told = turn.ack.get("heartbeatMs")
    turn.expect(isinstance(told, int) and 0 < told <= 15_000, f"ack advertises heartbeatMs {told!r}, at most 15000 is allowed")
    return int(told or 0) / 1000


@case(
    "F60",
    "heartbeats as advertised through silence",
    rule=_HEARTBEAT,
    why="Proxies cut connections that say nothing, and clients cannot tell a slow turn from a dead server.",
    limit_s=100,
)
def heartbeats(bench: Bench) -> None:
    """A minute of a silent model, or as much of it as the server bears; the gap between two signs of life is at most what `ack` promises."""
    patience_ms = round(bench.options.silence_s * 1500)
    route = bench.options.route or bench.facts.patient_route
    turn = bench.open("silent", route=route, onDisconnect="cancel", deadlineMs=patience_ms).head().read_events(1)
    beat = _heartbeat_s(turn)
    listened = max(bench.options.silence_s, 2 * beat)
    end = time.monotonic() + listened
    while time.monotonic() < end and turn.exchange.end == "open":
        turn.exchange.receive(min(0.2, beat))
    turn.read(lambda: True, "what came")
    last = turn.exchange.ended_at if turn.exchange.end != "open" else time.monotonic()
    heard = [turn.exchange.sent_at, *(piece.at for piece in turn.exchange.pieces), last or time.monotonic()]
    gap = max(after - before for before, after in pairwise(heard))
    if heard[-1] - heard[0] < 1.5 * beat:
        raise NotTried(f"the turn ended before a heartbeat of {beat:g} s was due; start the server with a shorter one")
    turn.expect(gap <= beat * 1.5 + 1.0, f"{gap:.1f} s of silence with heartbeats promised every {beat:g} s")
    if turn.exchange.end != "open":
        bench.note(f"the server ended the silence after {heard[-1] - heard[0]:.1f} s")
    turn.expect(turn.comments, "nothing but events was sent during the silence: no heartbeat is a comment")


@case(
    "F61",
    "heartbeats leave the cursor alone",
    rule=_HEARTBEAT,
    why="A heartbeat that counts as an event makes the next resume skip one.",
    limit_s=100,
)
def heartbeat_is_no_event(bench: Bench) -> None:
    """Blocks of comments hold no field; the events around them are contiguous."""
    first = bench.ask()
    beat = _heartbeat_s(first)
    turn = bench.open(f"text, slow={2.5 * beat:.2f}, text, end").head().finish()
    if not turn.comments:
        raise NotTried(f"no heartbeat came in {turn.since_sent(turn.events[-1].at):.1f} s; start the server with a shorter one")
    for block in turn.body.split(b"\n\n"):
        lines = block.split(b"\n")
        beats = [line for line in lines if line.startswith(b":")]
        rest = [line for line in lines if line and not line.startswith(b":")]
        turn.expect(not (beats and rest) or any(line.startswith(b"data:") for line in rest), "a heartbeat carries a field")
    seqs = [event.seq for event in turn.events]
    turn.expect(seqs == list(range(1, len(seqs) + 1)), f"seq runs {seqs} around heartbeats")
    whole = bench.follow(turn.turn_id).head().finish()
    turn.expect(whole.blocks == turn.blocks, "the replay differs: heartbeats are part of the log")


@case(
    "F62",
    "a viewer that does not read is dropped, and harms nobody",
    rule="contract 6.5: a reader that blocks longer than the send timeout is dropped, and can resume",
    why="One sleeping phone must not hold a worker, or the answer of everybody else in memory.",
    limit_s=180,
)
def stuck_viewers(bench: Bench) -> None:
    """Several viewers stop reading a long answer: another one reads on, memory stays bounded, the stuck are dropped and resume."""
    size = min(_ENOUGH_BYTES, int((bench.facts.max_log_bytes or 2_000_000) * 0.8))
    reader = bench.open(f"slow=0.5, fill={size}, end").head().read_events(1)
    stuck = [bench.follow(reader.turn_id, receive_buffer=4096) for _ in range(_STUCK_VIEWERS)]
    for viewer in stuck:
        viewer.head()
    began = time.monotonic()
    reader.finish(60)
    reader.expect_status("success")
    took = time.monotonic() - began
    reader.expect(took < 45, f"a reader beside {_STUCK_VIEWERS} stuck ones needed {took:.0f} s")
    _check_memory(bench, reader, size)
    timeout_ms = bench.facts.send_timeout_ms
    bench.budget.pause((timeout_ms or 30_000) / 1000 + 2.0)
    dropped = 0
    for viewer in stuck:
        viewer.read_end(20)
        whole = viewer.terminal is not None
        enough = size >= _TELLING_BYTES  # more than the kernel's buffers hold
        viewer.expect(not (whole and enough), "a viewer that took no byte for longer than the send timeout was not dropped")
        dropped += not whole
        if dropped == 1 and viewer.events:
            rest = bench.follow(reader.turn_id, last_event_id=viewer.events[-1].id).head().finish()
            count = len(viewer.events)
            rest.expect(
                viewer.blocks[:count] + rest.blocks == reader.blocks, "a dropped viewer that resumed lost or doubled events"
            )
        viewer.expect(not whole or viewer.blocks == reader.blocks, "a slow viewer's events differ")
    if size < _TELLING_BYTES:
        bench.note(f"the log limit allows {size} bytes only, which the kernel's buffers may hold: drops were not judged")


def _check_memory(bench: Bench, turn: TurnStream, size: int) -> None:
    try:
        before = bench.vitals().resident_bytes
    except NotTried as missing:
        bench.note(str(missing))
        return
    if before is None:
        bench.note("memory was not judged: /metrics shows no process_resident_memory_bytes")
        return
    bench.budget.pause(0.5)
    more = [bench.follow(turn.turn_id, receive_buffer=4096) for _ in range(_STUCK_VIEWERS)]
    for viewer in more:
        viewer.head()
    bench.budget.pause(1.0)
    grown = (bench.vitals().resident_bytes or 0) - before
    turn.expect(
        grown < _STUCK_VIEWERS * size * 0.6, f"{_STUCK_VIEWERS} stuck viewers of {size} bytes took {grown} bytes of memory"
    )
    for viewer in more:
        viewer.leave()


@case(
    "F63",
    "200 slow turns do not delay health by more than 250 ms",
    level=Level.SHOULD,
    rule="service: never the default executor, never a blocking call in the event loop",
    why="A health check that times out under load gets a healthy server restarted.",
    limit_s=120,
)
def health_under_load(bench: Bench) -> None:
    """Probed twenty times while they stream; three outliers are forgiven, so that a busy machine is not taken for a blocked server."""
    count = min(bench.options.slow_turns, (bench.facts.max_turns or 64) - 4, bench.options.max_connections)
    if count < bench.options.slow_turns:
        bench.note(f"{count} turns instead of {bench.options.slow_turns}: the server takes no more")
    turns = [bench.open("words=12@0.5, end", onDisconnect="cancel") for _ in range(count)]
    bench.budget.pause(1.0)
    waits = []
    for _ in range(20):
        began = time.monotonic()
        expect_status(bench.request("GET", "/health/live"), 200, "GET /health/live")
        waits.append(time.monotonic() - began)
        bench.budget.pause(0.1)
    usual = sorted(waits)[-4]
    if usual > 0.25:
        raise Failed(f"health took {usual * 1000:.0f} ms beside {count} turns, and longer three times")
    for turn in turns:
        turn.head().finish()


@case(
    "F64",
    "over capacity: 503 with Retry-After, before ack",
    rule="contract 5: Retry-After on 429 and 503; service: admission by semaphore",
    why="A server that takes everything breaks everything; one that says 'later' breaks nothing.",
    limit_s=120,
)
def over_capacity(bench: Bench) -> None:
    """One more than it takes is refused, and the ones that run are not harmed."""
    capacity = bench.facts.max_turns
    if capacity is None or capacity >= bench.options.max_connections:
        told = "is not told" if capacity is None else f"is {capacity}"
        raise NotTried(f"limits.maxTurns {told}; tried up to {bench.options.max_connections}")
    turns, refused = _filled(bench, capacity)
    for answer in refused:
        expect_status(answer, 503, f"turn {capacity + 1}")
        if not (answer.header("retry-after") or "").isdigit():
            raise Failed("503 without Retry-After in seconds", answer.evidence())
        if json_of(answer).get("status") != 503:
            raise Failed("503 without a problem document", answer.evidence())
    for turn in turns:
        turn.head().finish().expect_status("success")


def _filled(bench: Bench, capacity: int) -> tuple[list[TurnStream], list[Exchange]]:
    """As many turns as are taken, and what three more were answered while all of them ran.

    The turns have to last until the last is let in. Where a slow machine took longer than that, nothing was shown: once more, with longer turns.
    """
    seconds = 7 + capacity * 0.03
    for patience in (1, 3):
        turns = [_admitted(bench, round(patience * seconds)) for _ in range(capacity)]
        refused = [bench.open(onDisconnect="cancel").exchange.read_all(10) for _ in range(3)]
        if turns[0].since_sent() < patience * seconds or all(answer.status == 503 for answer in refused):
            break
        for turn in turns:
            turn.head().finish()
    return turns, refused


def _admitted(bench: Bench, seconds: int) -> TurnStream:
    """A slow turn that was let in; turns that earlier cases left behind may take places for a moment."""
    for _ in range(25):
        turn = bench.open(f"words={2 * seconds}@0.5, end", onDisconnect="cancel")
        if turn.exchange.read_head(10).status != 503:
            return turn.head()
        turn.leave()
        bench.budget.pause(0.2)
    raise Failed("fewer turns are let in than limits.maxTurns says", turn.evidence())


@case(
    "F65",
    "the deadline ends a turn, before and after text",
    rule="contract 5: deadlineMs; contract 2: reason deadline",
    why="Somebody waits; the promise of when to stop waiting has to hold.",
)
def deadline(bench: Bench) -> None:
    """Nothing shown: fallback or error. Text shown: the partial is kept."""
    before = bench.ask("silent", deadlineMs=1200)
    _within(before, 1.2)
    before.expect_status("fallback", "error")
    after = bench.ask("words=200@0.05, end", deadlineMs=1200)
    _within(after, 1.2)
    after.expect_partial(reason="deadline")


def _within(turn: TurnStream, deadline_s: float) -> None:
    took = turn.since_sent(turn.events[-1].at)
    turn.expect(took <= deadline_s + 1.5, f"the turn took {took:.1f} s with a deadline of {deadline_s:g} s")
    told = turn.ack.get("deadlineMs")
    turn.expect(
        isinstance(told, int) and told <= deadline_s * 1000, f"ack says deadlineMs {told}, {deadline_s * 1000:g} was asked for"
    )
