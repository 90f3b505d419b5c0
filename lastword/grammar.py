"""The grammar of a turn's events, as a state machine.

    turn = ack *( chunk / ext ) done
         / ack *ext error            ; an error never follows visible text
         / error                     ; a turn that failed before it was acknowledged

Feed it every event in the order of arrival; it raises at the first that the contract forbids. It knows nothing of bytes or time.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from lastword.errors import ContractViolation
from lastword.events import Ack, AnyEvent, Chunk, Done, Error, Event, Ext, Terminal, partial_for


class Place(StrEnum):
    """How far a reader is in a turn."""

    START = "start"
    ACKED = "acked"
    VISIBLE = "visible"
    ENDED = "ended"


class TurnGrammar:
    """Checks one turn, event by event. After a violation the object is not to be used further."""

    def __init__(self) -> None:
        self.place = Place.START
        self.turn_id: str | None = None
        self.seq = 0
        self.terminal: Terminal | None = None
        self._chunks = 0
        self._digest = hashlib.sha256()

    def feed(self, event: AnyEvent) -> None:
        """Takes the next event.

        Raises:
            ContractViolation: the event may not stand here, or says what the events before it deny.
        """
        self._check_sequence(event)
        match event:
            case Ack():
                self._require(self.place is Place.START, "ack_first", "ack is the first event and comes once")
                self.place = Place.ACKED
            case Chunk():
                self._require(self.place in (Place.ACKED, Place.VISIBLE), "chunk_after_ack", f"chunk at {self.place}")
                self._chunks += 1
                self._digest.update(event.text.encode())
                self.place = Place.VISIBLE
            case Ext():
                self._require(self.place in (Place.ACKED, Place.VISIBLE), "ext_after_ack", f"{event.type} at {self.place}")
            case Done():
                self._require(self.place in (Place.ACKED, Place.VISIBLE), "done_after_ack", f"done at {self.place}")
                self._check_done(event)
                self._end(event)
            case Error():
                self._require(self.place is not Place.VISIBLE, "no_error_after_text", "an error followed visible text")
                self._end(event)

    def _end(self, event: Terminal) -> None:
        self.terminal = event
        self.place = Place.ENDED

    def _check_sequence(self, event: Event | Ext) -> None:
        self._require(self.place is not Place.ENDED, "one_terminal", "an event followed the terminal")
        self._require(event.seq == self.seq + 1, "seq_contiguous", f"seq {event.seq} after {self.seq}")
        self._require(self.turn_id in (None, event.turn_id), "one_turn", f"{event.turn_id} in the stream of {self.turn_id}")
        self.turn_id = event.turn_id
        self.seq = event.seq

    def _check_done(self, event: Done) -> None:
        done = event.metadata
        self._require(
            done.chunk_count == self._chunks, "chunk_count", f"chunkCount {done.chunk_count}, but {self._chunks} chunks came"
        )
        digest = self._digest.hexdigest()
        self._require(done.streamed_sha256 == digest, "streamed_sha256", "streamedSha256 is not the digest of the chunks")
        expected = partial_for(done.completion_status, done.chunk_count)
        self._require(
            done.partial is expected,
            "partial_matches_status",
            f"partial={done.partial} with {done.completion_status} and {done.chunk_count} chunks",
        )

    @staticmethod
    def _require(holds: bool, rule: str, detail: str) -> None:
        if not holds:
            raise ContractViolation(rule, detail)
