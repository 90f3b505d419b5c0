"""Two thousand seeds keep every invariant, and each planted bug is found: a simulator that cannot fail proves nothing."""

import pytest
from click.testing import CliRunner
from msgspec import structs

from lastword.errors import ContractViolation
from lastword.events import CompletionStatus, Reason
from service import recovery
from service.log import TurnLog
from service.run import attempt, ending, middle
from service.service import TurnService
from service.store.ahead import AheadFile
from service.store.store import TurnStore
from service.turn.failures import FailureKind
from service.turn.outcome import Ending, ending_of
from service.turn.policy import Closed, Decision, backoff_ms, decide
from tests.simulation import model
from tests.simulation.__main__ import SEEDS, database, main, replay, run_seed, run_seeds

PLANTED_SEEDS = 500
"""Seeds within which a planted bug must be found."""
AT_LEAST = 3
"""How often each thing must occur, or the seeds prove little of it."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    """One database for all runs."""
    made = database(tmp_path_factory.mktemp("simulation"))
    yield made
    made.dispose()


@pytest.mark.timeout(400)
def test_every_invariant_holds_over_all_seeds(engine):
    """And everything that can happen does: each fault, status, reason and decision."""
    counts, failures = run_seeds(range(SEEDS), engine)
    assert not failures, "\n".join(f"{error}\n  replay it: {replay(seed)}" for seed, error in failures.items())
    expected = [f"model: {kind}" for kind in (*model.ALL, *model.LIKELY)]
    expected += [f"status: {status.value}" for status in CompletionStatus] + ["status: error"]
    expected += [f"reason: {reason.value}" for reason in Reason]
    expected += [f"decision: {decision.value}" for decision in Decision]
    expected += [
        "crash",
        "recovered",
        "shutdown",
        "stolen",
        "outage",
        "cancel",
        "resume",
        "asked again",
        "key with another payload",
    ]
    expected += ["client gone", "attempt: stall_timeout", "attempt: first_token_timeout", "rejected 503"]
    assert {name: counts[name] for name in expected if counts[name] < AT_LEAST} == {}


def test_same_seed_is_the_same_run(tmp_path):
    """Step by step, in another database too; another seed is another run."""
    traces = []
    for name, seed in (("a", 12), ("b", 12), ("c", 13)):
        folder = tmp_path / name
        folder.mkdir()
        own = database(folder)
        traces.append(run_seed(seed, own)[0].trace)
        own.dispose()
    assert traces[0] == traces[1] != traces[2]
    assert len(traces[0]) > 3


def test_failing_seed_names_the_command_that_replays_it(monkeypatch):
    """And the command shows the steps, in virtual time."""
    monkeypatch.setattr(ending, "partial_for", lambda status, chunks: False)
    shown = CliRunner().invoke(main, ["--seeds", "0..40"])
    assert shown.exit_code == 1
    seed = next(line.split()[1] for line in shown.output.splitlines() if line.startswith("seed "))
    assert f"python -m tests.simulation --seed {seed} -v" in shown.output
    steps = CliRunner().invoke(main, ["--seed", seed, "-v"])
    assert steps.exit_code == 1
    assert "asks on" in steps.output
    assert "partial" in steps.output


@pytest.mark.parametrize("arguments", [["--seeds", "7"], ["--seeds", "9..3"], ["--seed", "-1"]])
def test_span_that_is_none_is_refused(arguments):
    """With what one looks like."""
    assert CliRunner().invoke(main, arguments).exit_code == 2


# --- planted bugs


def _second_terminal(patch):
    end = TurnStore._end

    def again(self, connection, caller, ended, record):
        run = connection.exec_driver_sql
        run("UPDATE turns SET state = 'open' WHERE turn_id = ?", (ended.turn_id,))
        run("DELETE FROM turn_logs WHERE turn_id = ?", (ended.turn_id,))
        end(self, connection, caller, ended, record)

    patch(TurnStore, "_end", again)


def _another_try_after_text(patch):
    patch(
        middle, "decide", lambda kind, *, closed, **rest: decide(kind, closed=Closed(side_effects=closed.side_effects), **rest)
    )


def _another_try_after_side_effects(patch):
    patch(middle, "decide", lambda kind, *, closed, **rest: decide(kind, closed=Closed(visible=closed.visible), **rest))


def _error_after_text(patch):
    def fail(kind, *, closed, **rest):
        made = decide(kind, closed=closed, **rest)
        return Decision.FAIL if made is Decision.KEEP_PARTIAL else made

    patch(middle, "decide", fail)


def _success_for_a_cut_stream(patch):
    patch(attempt, "ending_of", lambda reason: Ending.COMPLETE if reason is None else ending_of(reason))


def _retry_after_ignored(patch):
    def hasty(retry, *, retry_after_s, **rest):
        return backoff_ms(retry, **rest)

    patch(middle, "backoff_ms", hasty)


def _deadline_ignored(patch):
    patch(middle, "_stop", lambda turn, kind: None)


def _stall_ignored(patch):
    begin = attempt._Progress._begin

    def lazy(self, kind):
        watch = begin(self, kind)
        if kind is FailureKind.STALL_TIMEOUT:
            watch.cancel()
        return watch

    patch(attempt._Progress, "_begin", lazy)


def _shutdown_ignored(patch):
    patch(TurnService, "begin_drain", lambda self: setattr(self, "draining", True))


def _partial_said_wrongly(patch):
    patch(ending, "partial_for", lambda status, chunks: True)


def _tool_without_results_counts(patch):
    patch(ending, "_tools_with_results", ending._tools_used)


def _frame_lost_by_the_log(patch):
    read = TurnLog.read

    def lossy(self, after, *size):
        return read(self, after + 1 if after == 3 else after, *size)

    patch(TurnLog, "read", lossy)


def _shown_before_it_is_stored(patch):
    append = TurnLog.append

    def eager(self, event):
        append(self, event)
        self.publish(self.last_seq)

    patch(TurnLog, "append", eager)


def _recovery_forgets_the_text(patch):
    closing_of = recovery.closing_of
    patch(recovery, "closing_of", lambda turn, *rest: closing_of(structs.replace(turn, frames=b""), *rest))


def _terminal_told_though_not_stored(patch):
    close = TurnLog.close

    def tell(self):
        if not self.closed and self.last_seq > 1:
            self.publish(self.last_seq)
        close(self)

    patch(TurnLog, "close", tell)
    patch(TurnLog, "seal", lambda self: None)
    patch(TurnLog, "unsaved", lambda self: None)


def _kept_text_is_forgotten(patch):
    patch("service.store.ahead._store_left", lambda *_: 1)
    patch(AheadFile, "read", lambda _: {})


def _text_shown_without_a_lease(patch):
    lease = AheadFile.lease
    patch(AheadFile, "lease", lambda self, seconds, *, alone: lease(self, 10**6, alone=True))


PLANTED = [
    _second_terminal,
    _another_try_after_text,
    _another_try_after_side_effects,
    _error_after_text,
    _success_for_a_cut_stream,
    _retry_after_ignored,
    _deadline_ignored,
    _stall_ignored,
    _shutdown_ignored,
    _partial_said_wrongly,
    _tool_without_results_counts,
    _frame_lost_by_the_log,
    _shown_before_it_is_stored,
    _recovery_forgets_the_text,
    _terminal_told_though_not_stored,
    _kept_text_is_forgotten,
    _text_shown_without_a_lease,
]


@pytest.mark.timeout(120)
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__.strip("_"))
def test_planted_bug_is_found(engine, monkeypatch, plant):
    """Some seed fails."""
    plant(monkeypatch.setattr)
    for seed in range(PLANTED_SEEDS):
        _, error = run_seed(seed, engine)
        if error is not None:
            assert isinstance(error, AssertionError | ContractViolation), f"it is not an invariant that failed: {error!r}"
            return
    pytest.fail(f"{PLANTED_SEEDS} seeds did not find it")
