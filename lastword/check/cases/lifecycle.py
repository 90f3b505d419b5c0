"""Lifecycle: what stopping, killing and restarting the server does to its turns."""

from __future__ import annotations

from typing import Any

from lastword.check.bench import Bench, metadata_of
from lastword.check.case import Failed, Level, Need, case
from lastword.check.stream import TurnStream

_DRAIN = "contract 6.1: a shutdown is closed by a drain on SIGTERM, before the server cuts its connections"
_RECOVER = "contract 6.1: a crash is closed by recovery at the next start (recovered=true)"
_NEEDS = Need.PROVIDER | Need.PROCESS
_LIMIT_S = 150.0
_GRACE_S = 20.0


def _grace_s(bench: Bench) -> float:
    told = bench.facts.drain_ms
    return _GRACE_S if told is None else told / 1000 + 2.0


def _stopped(bench: Bench, turn: TurnStream) -> None:
    """Expects the terminal on the wire and the process to end within its grace; then starts the server again."""
    grace = _grace_s(bench)
    try:
        turn.finish(grace)
        took = bench.process.wait_gone(grace)
        turn.expect(took is not None, f"the process still runs {grace:g} s after SIGTERM")
    finally:
        _restart(bench)


def _restart(bench: Bench) -> None:
    if bench.process.running:
        bench.process.kill()
    bench.process.start()


@case(
    "L66",
    "SIGTERM in mid-text: terminal on the wire, exit within the grace",
    rule=_DRAIN,
    why="Every deployment is a SIGTERM; readers must not pay for it with a torn stream.",
    needs=_NEEDS,
    limit_s=_LIMIT_S,
)
def term_in_mid_text(bench: Bench) -> None:
    """The partial is kept, said, and delivered."""
    turn = bench.open("words=800@0.05, end").head().read_chunk(2)
    bench.process.terminate()
    _stopped(bench, turn)
    turn.expect_partial(reason="server_shutdown")


@case(
    "L67",
    "SIGTERM before text: terminal, retryable",
    rule=_DRAIN,
    why="Nothing was shown, so the client can simply ask again, if it is told so.",
    needs=_NEEDS,
    limit_s=_LIMIT_S,
)
def term_before_text(bench: Bench) -> None:
    """An error that says that asking again helps."""
    turn = bench.open("silent").head().read_events(1)
    bench.process.terminate()
    _stopped(bench, turn)
    turn.expect_status("error")
    turn.expect(turn.terminal and turn.terminal.data.get("retryable") is True, "the error is not retryable")


@case(
    "L68",
    "SIGKILL and restart: exactly one recovered terminal",
    rule=_RECOVER,
    why="Crashes happen; a turn that stays open for ever is a hole in every count.",
    needs=_NEEDS,
    limit_s=_LIMIT_S,
)
def kill(bench: Bench) -> None:
    """One turn in mid-text and one before text: each gets one terminal, what was read is a prefix of the replay, and another crash changes nothing."""
    shown = bench.open("words=800@0.05, end").head().read_chunk(5)
    waiting = bench.open("silent").head().read_events(1)
    bench.process.kill()
    bench.process.wait_gone(5)
    shown.read_end(5)
    seen = shown.blocks
    _restart(bench)
    first = _recovered(bench, shown.turn_id)
    second = _recovered(bench, waiting.turn_id)
    metadata = metadata_of(first)
    shown.expect(first.get("type") == "done" and metadata.get("partial") is True, "the cut answer is no partial done")
    shown.expect(metadata.get("completionStatus") == "interrupted", f"it ended as {metadata.get('completionStatus')}")
    waiting.expect(
        second.get("type") == "error" and second.get("retryable") is True, "the unanswered turn is no retryable error"
    )
    replay = bench.follow(shown.turn_id).head().finish()
    replay.expect(len(replay.terminals) == 1, f"the replay has {len(replay.terminals)} terminals")
    replay.expect(replay.blocks[: len(seen)] == seen, "the replay does not begin with what was delivered before the crash")
    seqs = [event.seq for event in replay.events]
    replay.expect(seqs == list(range(1, len(seqs) + 1)), f"seq runs {seqs[-5:]}")
    replay.expect(replay.metadata.get("streamedSha256") == replay.digest(), "streamedSha256 is not the digest of the chunks")
    bench.process.kill()
    _restart(bench)
    again = bench.follow(shown.turn_id).head().finish()
    again.expect(again.blocks == replay.blocks, "after one more crash, the recovered turn is another")


def _recovered(bench: Bench, turn_id: str) -> dict[str, Any]:
    terminal = bench.wait_ended(turn_id, bench.options.patience_s)
    metadata = metadata_of(terminal)
    if metadata.get("recovered") is not True:
        raise Failed(f"the terminal of {turn_id} does not say recovered=true", str(terminal).encode())
    return terminal


@case(
    "L69",
    "a second SIGTERM is harmless",
    level=Level.SHOULD,
    rule=_DRAIN,
    why="Supervisors and impatient people send it twice.",
    needs=_NEEDS,
    limit_s=_LIMIT_S,
)
def term_twice(bench: Bench) -> None:
    """The drain that runs goes on, whenever the second one comes."""
    turn = bench.open("words=800@0.05, end").head().read_chunk(2)
    bench.process.terminate()
    for pause in (0.01, 0.05, 0.1):
        bench.budget.pause(pause)
        if bench.process.running:
            bench.process.terminate()
    _stopped(bench, turn)
    turn.expect_partial(reason="server_shutdown")


@case(
    "L70",
    "rolling restart with a resuming client: nothing lost, nothing doubled",
    level=Level.SHOULD,
    rule=f"{_DRAIN}; resume by Last-Event-ID",
    why="A client that reconnects to the new process has to find the turn of the old one.",
    needs=_NEEDS,
    limit_s=_LIMIT_S,
)
def rolling_restart(bench: Bench) -> None:
    """Read some, lose the connection, let the server restart, read the rest."""
    turn = bench.open("words=800@0.05, end").head().read_chunk(4)
    seen = turn.blocks
    turn.leave()
    bench.process.terminate()
    gone = bench.process.wait_gone(_grace_s(bench))
    _restart(bench)
    turn.expect(gone is not None, "the process does not end on SIGTERM")
    rest = bench.follow(turn.turn_id, last_event_id=f"{turn.turn_id}.{len(seen)}").head().finish()
    whole = bench.follow(turn.turn_id).head().finish()
    rest.expect(seen + rest.blocks == whole.blocks, "what was read before and after the restart does not join to the whole")
    rest.expect(len(whole.terminals) == 1, f"the replay has {len(whole.terminals)} terminals")
