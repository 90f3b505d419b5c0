"""Cancel and disconnect: stopping a turn, and leaving it."""

from __future__ import annotations

import time
from functools import partial

from lastword.check.bench import Bench, json_of, metadata_of
from lastword.check.case import Failed, Level, NotTried, case
from lastword.check.cases.resume import expect_status
from lastword.check.stream import TurnStream

_CANCEL = "contract 5: POST /v1/turns/{id}/cancel: 202; idempotent; after the terminal, 200 with it"
_LEAVE = "contract 5: disconnect is not cancel: onDisconnect is continue (default, with a grace) or cancel"
_SOCKET = "contract 6.6: no thread, socket or provider call outlives its turn by more than a second"
_MAX_GRACE_S = 20.0
_SLACK = 12
_SECOND = 1.5  # the contract's second, and half of one for a busy machine


def _cancelled_within(bench: Bench, turn: TurnStream, limit_s: float) -> None:
    """Cancels, and expects the terminal in time."""
    began = time.monotonic()
    expect_status(bench.cancel(turn.turn_id), 202, "cancel of a running turn")
    turn.finish(10)
    took = turn.events[-1].at - began
    turn.expect(took <= limit_s, f"the terminal came {took:.2f} s after the cancel")
    turn.expect_status("cancelled")
    turn.expect(turn.metadata.get("reason") == "client_cancelled", f"reason is {turn.metadata.get('reason')!r}")


@case(
    "C52",
    "cancel before text",
    rule="contract 2: cancelled, partial where chunkCount > 0",
    why="A person who changed their mind is no error.",
)
def before_text(bench: Bench) -> None:
    """Cancelled, not partial, within a second."""
    turn = bench.open("silent").head().read_events(1)
    _cancelled_within(bench, turn, _SECOND)
    turn.expect(turn.metadata.get("partial") is False, "partial is not false though nothing was shown")


@case(
    "C53",
    "cancel in mid-text: terminal within 1 s",
    rule=_CANCEL,
    why="A stop button that does not stop is pressed again, and again.",
)
def in_mid_text(bench: Bench) -> None:
    """Cancelled and partial, within a second."""
    turn = bench.open("words=400@0.05, end").head().read_chunk(2)
    _cancelled_within(bench, turn, _SECOND)
    turn.expect(turn.metadata.get("partial") is True, "partial is not true though text was shown")


def expect_provider_left(bench: Bench, turn: TurnStream, since: float, limit_s: float) -> None:
    """Expects that the server closes its connection to the provider in time."""
    bench.budget.wait_for(
        lambda: any(call.left_at for call in bench.calls(turn)), limit_s + 4, "the close of the provider's socket"
    )
    left = max(call.left_at or 0.0 for call in bench.calls(turn)) - since
    turn.expect(left <= limit_s, f"the provider's socket was closed after {left:.2f} s")


@case(
    "C54",
    "cancel closes the provider's socket within 1 s, silent and pinging alike",
    rule=_SOCKET,
    why="Tokens that nobody reads are paid for all the same.",
)
def provider_socket(bench: Bench) -> None:
    """A blocked read is woken."""
    for script in ("text, hang", "text, pings", "silent"):
        turn = bench.open(script).head().read_events(1)
        bench.budget.wait_for(partial(bench.calls, turn), 5, "the provider call")
        bench.budget.pause(0.2)
        began = time.monotonic()
        expect_status(bench.cancel(turn.turn_id), 202, "cancel of a running turn")
        expect_provider_left(bench, turn, began, _SECOND)


@case(
    "C55",
    "cancel twice, after the terminal, and racing it: one terminal",
    rule=_CANCEL,
    why="Races between the stop button and the last token happen every day.",
    limit_s=180,
)
def races(bench: Bench) -> None:
    """Whoever comes first wins, and there is one terminal, on the wire and in the snapshot."""
    turn = bench.open("words=400@0.05, end").head().read_chunk(1)
    bench.cancel(turn.turn_id)
    again = bench.cancel(turn.turn_id)
    turn.expect(again.status in {200, 202}, f"a second cancel is answered {again.status}")
    turn.finish(10)
    after = bench.cancel(turn.turn_id)
    expect_status(after, 200, "cancel after the terminal")
    found = json_of(after).get("terminal")
    turn.expect(turn.terminal and found == turn.terminal.data, "cancel after the terminal does not answer with it")
    script, outcomes = "words=3@0.003, end", set()
    plain = [bench.ask(script) for _ in range(3)]
    lasts_s = min(turn.events[-1].at - turn.events[0].at for turn in plain)
    for _ in range(bench.options.races):
        raced = bench.open(script).head().read_events(1)
        bench.budget.pause(bench.rng.random() * 1.2 * lasts_s)
        got = bench.cancel(raced.turn_id)
        raced.finish(10)
        raced.expect(got.status in {200, 202}, f"cancel is answered {got.status}")
        raced.expect(len(raced.terminals) == 1, f"the stream has {len(raced.terminals)} terminals")
        stored = bench.terminal_of(raced.turn_id)
        raced.expect(raced.terminal and stored == raced.terminal.data, "the snapshot's terminal is not the stream's")
        outcomes.add(raced.status)
        raced.leave()
    if len(outcomes) < 2:
        bench.note(f"every race ended as {', '.join(outcomes)}: the two never came close")


@case(
    "C56",
    "continue survives a close and a reset",
    rule=_LEAVE,
    why="A lost connection is no decision.",
)
def continues(bench: Bench) -> None:
    """The turn goes on without viewers, to its whole answer."""
    for reset in (False, True):
        turn = bench.open("words=10@0.04, end", onDisconnect="continue").head().read_chunk(1)
        turn.leave(reset=reset)
        terminal = bench.wait_ended(turn.turn_id)
        ended = metadata_of(terminal)
        turn.expect(ended.get("completionStatus") == "success", f"the turn ended as {ended.get('completionStatus')}")


@case(
    "C57",
    "onDisconnect=cancel stops the provider",
    rule=_LEAVE,
    why="Who asked for it wants no tokens spent on an empty room.",
)
def cancels(bench: Bench) -> None:
    """The last viewer leaves, and so do we at the provider."""
    turn = bench.open("text, hang", onDisconnect="cancel").head().read_chunk(1)
    began = time.monotonic()
    turn.leave()
    expect_provider_left(bench, turn, began, 2.0)
    ended = metadata_of(bench.wait_ended(turn.turn_id))
    turn.expect(ended.get("completionStatus") == "cancelled", f"the turn ended as {ended.get('completionStatus')}")
    turn.expect(ended.get("reason") == "client_disconnected", f"reason is {ended.get('reason')!r}")


@case(
    "C58",
    "the grace after the last viewer is honoured",
    level=Level.SHOULD,
    rule=_LEAVE,
    why="Long enough to come back, and not for ever.",
)
def grace(bench: Bench) -> None:
    """Within the grace the turn runs; after it, it has ended. Tried where the server names a short one."""
    told = bench.facts.disconnect_grace_ms
    if told is None or told > _MAX_GRACE_S * 1000:
        shown = "not told" if told is None else f"{told / 1000:g} s"
        raise NotTried(f"disconnectGraceMs is {shown}; start the server with at most {_MAX_GRACE_S:g} s to try this")
    grace_s = told / 1000
    turn = bench.open(f"words={int((grace_s + 30) / 0.05)}@0.05, end").head().read_chunk(1)
    left = time.monotonic()
    turn.leave()
    bench.budget.pause(grace_s * 0.6)
    if bench.terminal_of(turn.turn_id) is not None:
        raise Failed(f"the turn ended {time.monotonic() - left:.1f} s after its viewer left, the grace is {grace_s:g} s")
    terminal = bench.wait_ended(turn.turn_id, grace_s + 5)
    reason = metadata_of(terminal).get("reason")
    turn.expect(reason == "client_disconnected", f"reason is {reason!r}")


def _abort(bench: Bench, count: int, batch: int) -> None:
    """Leaves so many turns in mid-text, by a close or a reset."""
    while count > 0:
        turns = [bench.open("text, hang", onDisconnect="cancel") for _ in range(min(batch, count))]
        count -= len(turns)
        for number, turn in enumerate(turns):
            turn.head().read_events(1)
            turn.leave(reset=number % 2 == 0)
        for turn in turns:
            bench.wait_ended(turn.turn_id)


@case(
    "C59",
    "threads and descriptors return to the baseline after 200 aborts",
    rule=_SOCKET,
    why="A leak of one descriptor per closed tab is an outage every few days.",
    limit_s=180,
)
def no_leak(bench: Bench) -> None:
    """Counted where the server shows them: in /proc with --start, or on /metrics."""
    bench.vitals()
    batch = max(1, min(20, (bench.facts.max_turns or 20) // 2))
    _abort(bench, 2 * batch, batch)  # pools of threads and connections grow to what the load needs: that is no leak
    bench.budget.pause(1.5)
    before = bench.vitals()
    _abort(bench, bench.options.aborts, batch)

    def recovered() -> bool:
        bench.budget.pause(0.3)
        now = bench.vitals()
        return now.threads <= before.threads + _SLACK and now.descriptors <= before.descriptors + _SLACK

    try:
        bench.budget.wait_for(recovered, bench.options.patience_s, "the baseline")
    except Failed:
        now = bench.vitals()
        raise Failed(
            f"threads {before.threads} before, {now.threads} after; descriptors {before.descriptors} before, {now.descriptors} after"
        ) from None
