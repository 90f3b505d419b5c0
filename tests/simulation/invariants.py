"""What must hold after every run, whatever happened in it: section 6 of the contract, and what follows from the rest of it."""

import json
import re
from itertools import pairwise

from sqlalchemy import select, text

from lastword.events import Chunk, CompletionStatus, Done, Error, Reason, ToolOutcome
from lastword.grammar import TurnGrammar
from lastword.wire import FrameParser, decode_event, scalar_text
from service.store.models import TurnLogRow
from service.turn.answer import clean
from service.turn.failures import FailureKind
from service.turn.outcome import Ending, ending_of
from tests.simulation import model
from tests.simulation.process import ROUTES, SETTINGS
from tests.simulation.world import MS, S

SLACK_NS = 1_200 * MS
"""How long a turn may outlive what ended it."""
TIERS = {route.name: route for route in ROUTES}
PARTIAL = {CompletionStatus.TRUNCATED, CompletionStatus.INTERRUPTED}


class Broken(AssertionError):
    """An invariant does not hold; the message says which, and of which turn."""


def check(run):
    """Checks a whole run, and counts what occurred.

    Raises:
        Broken: something must never happen, and did.
    """
    if run.world.workers:
        raise Broken(f"{run.world.workers} workers have not ended")
    with run.engine.connect() as connection:
        for asked in run.asked:
            for turn in asked.turns:
                _Turn(run, asked, turn, connection).check()


class _Turn:
    def __init__(self, run, asked, turn, connection):
        self.run = run
        self.request = asked.request
        self.turn = turn
        self.id = turn.turn_id
        self.viewers = [viewer for viewer in asked.viewers if viewer.turn_id == self.id]
        row = connection.execute(text("SELECT * FROM turns WHERE turn_id = :id"), {"id": self.id}).mappings().first()
        self.row = row
        self.frames = b""
        self.records = []
        if row is not None:
            found = connection.scalar(select(TurnLogRow.frames).where(TurnLogRow.turn_id == self.id))
            self.frames = found or b""
            self.records = list(
                connection.execute(
                    text("SELECT event_name, body FROM outbox WHERE turn_id = :id ORDER BY record_id"), {"id": self.id}
                )
            )
        self.events = [decode_event(frame) for frame in FrameParser().feed(self.frames)]

    def require(self, holds, what):
        if not holds:
            raise Broken(f"{self.id}: {what}")

    def check(self):
        if self.row is None:
            self.require(not any(viewer.seq for viewer in self.viewers), "a viewer saw a turn that was never stored")
            return
        self._one_terminal()
        if not self.events:
            self.require(not any(viewer.seq for viewer in self.viewers), "seen, and no log")
            return
        self._grammar()
        self._viewers()
        self._tries()
        self._terminal_tells_the_truth()
        self._in_time()
        self._count()

    def _one_terminal(self):
        self.require(self.row["state"] in {"done", "error"}, f"it is {self.row['state']} for ever")
        names = [name for name, _ in self.records]
        self.require(names == ["turn.accepted", "turn.done"], f"its records are {names}")
        left = self.row["last_seq"]
        self.require(left == len(self.events), f"the row says {left} events, the log holds {len(self.events)}")
        body = json.loads(self.records[1][1])
        self.require(body, "the record is empty")

    def _grammar(self):
        grammar = TurnGrammar()
        for event in self.events:
            grammar.feed(event)
        self.terminal = self.events[-1]
        self.require(grammar.terminal is self.terminal, "the log ends without a terminal")
        stored = json.loads(self.row["terminal"])
        on_wire = json.loads(self.frames.split(b"\ndata: ")[-1])
        self.require(stored == on_wire, "the row's terminal is another one than the log's")
        self.metadata = self.terminal.metadata
        self.visible = any(isinstance(event, Chunk) for event in self.events)

    def _viewers(self):
        """Who came back lost nothing, and saw nothing twice."""
        whole = list(FrameParser().feed(self.frames))
        for viewer in self.viewers:
            seen = [frame for frame, _ in viewer.received]
            self.require(seen == whole[: len(seen)], f"{viewer.name} saw something else than the log holds")
            if viewer.complete or (seen and "gone" not in viewer.habits):
                self.require(seen == whole, f"{viewer.name} ended at event {len(seen)} of {len(whole)}")

    def _tries(self):
        """No call to the model after visible text but those of the same try; nothing after a tool with side effects; no more tries than allowed."""
        calls = [call for process in self.run.processes for call in process.model.calls if call.request.turn_id == self.id]
        route = TIERS[self.events[0].route]
        attempts = max((call.request.attempt for call in calls), default=0)
        most = route.attempts_per_tier * len(route.tiers)
        self.require(attempts <= most, f"{attempts} tries, {most} are allowed")
        shown_at_ns = (
            self.turn.anchor.mono_ns
            + min((event.t_ms for event in self.events if isinstance(event, Chunk)), default=10**12) * MS
        )
        first_visible = next((call.request.attempt for call in calls if call.begun_ns > shown_at_ns + MS), None)
        showing = [call for call in calls if call.begun_ns <= shown_at_ns + MS]
        if first_visible is not None and showing and not getattr(self.metadata, "fallback", False):
            self.require(first_visible == showing[-1].request.attempt, "another try began after visible text")
        booked = [process for process in self.run.processes if (self.id, "book") in process.tools.ran]
        if booked:
            first = next(call.request.attempt for call in calls if "book" in call.plan.tools)
            self.require(attempts == first, "another try began after a tool with side effects")
        for process in self.run.processes:
            self._waits([call for call in calls if call in process.model.calls])

    def _waits(self, calls):
        """A `retry-after` is kept, or there is no retry."""
        for before, after in pairwise(calls):
            asked_s = before.plan.retry_after_s
            same = before.request.model == after.request.model and before.request.attempt != after.request.attempt
            if asked_s and same:
                waited = after.begun_ns - before.begun_ns
                self.require(
                    waited >= asked_s * S * 0.999, f"retried after {waited / S:.2f} s where {asked_s} s were asked for"
                )

    def _terminal_tells_the_truth(self):
        done = self.metadata
        timings = done.stage_timings
        stages = {
            name: getattr(timings, name) for name in timings.__struct_fields__ if name not in {"first_token_ms", "total_ms"}
        }
        self.require(
            sum(value or 0 for value in stages.values()) <= timings.total_ms, f"the stages are longer than the turn: {stages}"
        )
        self.require((timings.first_token_ms is None) == (not self.visible), "firstTokenMs")
        if done.reason is Reason.INTERNAL_ERROR:
            kinds = {
                call.plan.kind
                for process in self.run.processes
                for call in process.model.calls
                if call.request.turn_id == self.id
            }
            self.require(kinds & set(model.BUGS), "it broke, and no bug was planted in its model")
        if isinstance(self.terminal, Error):
            self.require(not self.visible, "an error after visible text")
            return
        self.require(
            done.partial
            == (
                done.completion_status in PARTIAL or (done.completion_status.value in {"cancelled", "refused"} and self.visible)
            ),
            "partial",
        )
        shown = "".join(event.text for event in self.events if isinstance(event, Chunk))
        self.require(done.answer_matches_stream == (done.answer == shown), "answerMatchesStream")
        if done.recovered:
            self.require(done.reason is Reason.SERVER_CRASH and done.answer == shown, "recovered, and not what was shown")
            return
        with_results = {call.name for call in done.tool_calls if call.outcome is ToolOutcome.RESULTS}
        self.require(
            set(done.tools_with_results) == with_results <= {"lookup", "book"}, f"toolsWithResults {done.tools_with_results}"
        )
        self.require(not (done.fallback and any(note.visible for note in done.attempts)), "a fallback after visible text")
        if done.completion_status in {CompletionStatus.SUCCESS, CompletionStatus.DEGRADED}:
            self._whole(done)
        if done.completion_status is CompletionStatus.SUCCESS:
            self.require(done.reason is None and not done.degraded, "a success with a reason, or from a cheaper tier")
        else:
            self.require(done.reason is not None, f"{done.completion_status} without a reason")

    def _whole(self, done):
        """A whole answer is all that the model said in the last try, which it ended itself."""
        calls = [call for process in self.run.processes for call in process.model.calls if call.request.turn_id == self.id]
        last = [call for call in calls if call.request.attempt == calls[-1].request.attempt]
        end = last[-1].plan
        enough = {"ok", "stop_sequence", "tools", "pause", "huge"}
        if any("".join(call.said).strip() for call in last[:-1]):
            enough |= {"empty", "blank"}  # what it had to say stood before the tools
        self.require(end.kind in enough, f"{done.completion_status} of a model that ended with {end.kind}")
        self.require(ending_of(done.finish_reason) is Ending.COMPLETE, f"{done.completion_status} with {done.finish_reason}")
        said = scalar_text(clean("".join(text for call in last for text in call.said)))
        self.require(done.answer == said, "the answer is not what the model said")

    def _in_time(self):
        """The turn ends soon after what ends it: its deadline, a cancel, a shutdown."""
        if self.metadata.recovered:
            return
        begun = self.turn.anchor.mono_ns
        ended = begun + self.terminal.t_ms * MS
        limit = min(self.request.deadline_ms or 10**9, TIERS[self.events[0].route].deadline_ms) * MS
        self.require(
            ended - begun <= limit + SLACK_NS, f"it took {(ended - begun) / S:.2f} s, its deadline is {limit / S:.2f} s"
        )
        cancelled_ns = self.run.cancelled_ns.get(self.id)
        if cancelled_ns is not None:
            self.require(ended <= cancelled_ns + SLACK_NS, "it went on after the cancel")
        if self.run.shutdown_ns is not None and begun < self.run.shutdown_ns:
            self.require(ended <= self.run.shutdown_ns + SLACK_NS, "it went on after the shutdown")
        silence = max(TIERS[self.events[0].route].stall_timeout_ms, model.LIMIT_S * 3_000) * MS + SLACK_NS
        shown = [event.t_ms * MS for event in self.events if isinstance(event, Chunk)]
        gaps = [after - before for before, after in pairwise([*shown, self.terminal.t_ms * MS])]
        self.require(all(gap <= silence + SETTINGS.heartbeat_ms * MS for gap in gaps), "a stall went unnoticed")

    def _count(self):
        counts, done = self.run.counts, self.metadata
        status = done.completion_status.value if isinstance(self.terminal, Done) else "error"
        counts[f"status: {status}"] += 1
        counts[f"reason: {done.reason.value if done.reason else None}"] += 1
        for note in self.turn.attempts:
            if note.decision:
                counts[f"decision: {note.decision}"] += 1
        for name in (FailureKind.STALL_TIMEOUT, FailureKind.FIRST_TOKEN_TIMEOUT):
            if any(re.fullmatch(name.value, note.error_type or "") for note in done.attempts):
                counts[f"attempt: {name.value}"] += 1
