"""Plain data that goes into the database and comes out of it."""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from lastword.events import Usage


class NewTurn(Struct, frozen=True, kw_only=True):
    """A turn as it is accepted. `owner` is the instance that runs it; `question` and `span_id` are for who has to close it in its place."""

    turn_id: str
    caller: str
    conversation_id: str
    trace_id: str
    accepted_at: datetime
    deadline_ms: int
    idempotency_key: str | None
    payload_sha256: str
    labels: dict[str, str]
    span_id: str = ""
    owner: str = ""
    question: str = ""


class EndedTurn(Struct, frozen=True, kw_only=True):
    """A turn as it ends: its terminal event, as JSON and as the last frame of its log.

    A turn that failed before its `ack` has no frames; its idempotency key is free again, for the client was told to ask again.
    """

    turn_id: str
    state: str
    ended_at: datetime
    last_seq: int
    terminal: str
    frames: bytes
    usage: Usage = Usage()


class StoredTurn(Struct, frozen=True, kw_only=True):
    """A turn as stored."""

    turn_id: str
    caller: str
    conversation_id: str
    state: str
    payload_sha256: str
    accepted_at: datetime
    ended_at: datetime | None
    last_seq: int
    terminal: str | None


class Message(Struct, frozen=True, kw_only=True):
    """A canonical message of a conversation."""

    role: str
    text: str
    turn_id: str
    partial: bool
    created_at: datetime


class Record(Struct, frozen=True, kw_only=True):
    """A turn record for the collector. `record_id` is 0 until it is stored; `body` is JSON."""

    event_name: str
    turn_id: str
    trace_id: str
    span_id: str
    time_ns: int
    body: str
    record_id: int = 0


class DuplicateKey(Exception):
    """The caller has used this idempotency key before."""

    def __init__(self, existing: StoredTurn) -> None:
        super().__init__(existing.turn_id)
        self.existing = existing


class OpenTurn(Struct, frozen=True, kw_only=True):
    """A turn whose instance is gone, as far as the database knows it. `frames` is its log so far."""

    turn_id: str
    caller: str
    conversation_id: str
    trace_id: str
    span_id: str
    accepted_at: datetime
    question: str
    frames: bytes


class Closing(Struct, frozen=True, kw_only=True):
    """What is stored when a turn ends."""

    ended: EndedTurn
    record: Record
    messages: list[Message]
