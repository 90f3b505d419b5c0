"""What the service keeps, as operations: every method is one transaction.

Synchronous: called from worker threads and the outbox's thread only. Invariants: a turn is ended once (`end_turn` compares and sets); the record that tells the
collector of it is written in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from msgspec import Struct
from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from service.store.engine import READ_ONLY
from service.store.models import ConversationRow, MessageRow, OutboxRow, TurnLogRow, TurnRow


class NewTurn(Struct, frozen=True, kw_only=True):
    """A turn as it is accepted."""

    turn_id: str
    caller: str
    conversation_id: str
    trace_id: str
    accepted_at: datetime
    deadline_ms: int
    idempotency_key: str | None
    payload_sha256: str
    labels: dict[str, str]


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


class TurnStore:
    """The database behind the service."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(**READ_ONLY)

    def accept_turn(self, turn: NewTurn, record: Record) -> None:
        """Stores a turn as open, with its `turn.accepted` record.

        Raises:
            DuplicateKey: the idempotency key is taken; nothing was stored.
        """
        try:
            with Session(self._engine) as session, session.begin():
                session.add(
                    TurnRow(
                        turn_id=turn.turn_id,
                        caller=turn.caller,
                        conversation_id=turn.conversation_id,
                        trace_id=turn.trace_id,
                        state="open",
                        accepted_at=turn.accepted_at,
                        deadline_ms=turn.deadline_ms,
                        last_seq=0,
                        idempotency_key=turn.idempotency_key,
                        payload_sha256=turn.payload_sha256,
                        labels=turn.labels,
                    )
                )
                session.add(_outbox_row(record))
        except IntegrityError:
            existing = self._by_key(turn.caller, turn.idempotency_key)
            if existing is None:
                raise
            raise DuplicateKey(existing) from None

    def _by_key(self, caller: str, key: str | None) -> StoredTurn | None:
        with Session(self._reader) as session:
            row = session.scalar(select(TurnRow).where(TurnRow.caller == caller, TurnRow.idempotency_key == key))
            return None if row is None else _stored(row)

    def find_turn(self, turn_id: str) -> StoredTurn | None:
        """A turn by its id."""
        with Session(self._reader) as session:
            row = session.get(TurnRow, turn_id)
            return None if row is None else _stored(row)

    def find_log(self, turn_id: str) -> bytes | None:
        """The whole log of an ended turn."""
        with Session(self._reader) as session:
            row = session.get(TurnLogRow, turn_id)
            return None if row is None else row.frames

    def conversation_owner(self, conversation_id: str) -> str | None:
        """The caller that a conversation belongs to; None where there is no such conversation."""
        with Session(self._reader) as session:
            return session.scalar(select(ConversationRow.caller).where(ConversationRow.conversation_id == conversation_id))

    def messages(self, conversation_id: str, limit: int) -> list[Message]:
        """The newest `limit` messages of a conversation, oldest first."""
        with Session(self._reader) as session:
            rows = session.scalars(
                select(MessageRow)
                .where(MessageRow.conversation_id == conversation_id)
                .order_by(MessageRow.message_id.desc())
                .limit(limit)
            ).all()
        return [
            Message(role=row.role, text=row.text, turn_id=row.turn_id, partial=row.partial, created_at=row.created_at)
            for row in reversed(rows)
        ]

    def end_turn(
        self,
        turn_id: str,
        *,
        caller: str,
        conversation_id: str,
        messages: list[Message],
        close: Callable[[], tuple[EndedTurn, Record]],
    ) -> bool:
        """Ends a turn, once: its messages, its terminal, its log and its `turn.done` record, in one transaction.

        `close` builds the terminal after the messages are written, so that its timings hold the cost of writing them. False where the
        turn had ended already: then nothing was stored.
        """
        with Session(self._engine) as session:
            with session.begin():
                if messages:
                    _add_messages(session, caller, conversation_id, messages)
                ended, record = close()
                won = session.scalar(
                    update(TurnRow)
                    .where(TurnRow.turn_id == turn_id, TurnRow.state == "open")
                    .values(
                        state=ended.state,
                        ended_at=ended.ended_at,
                        last_seq=ended.last_seq,
                        terminal=ended.terminal,
                        idempotency_key=TurnRow.idempotency_key if ended.frames else None,
                    )
                    .returning(TurnRow.turn_id)
                )
                if won is None:
                    session.rollback()
                    return False
                session.add(TurnLogRow(turn_id=turn_id, frames=ended.frames))
                session.add(_outbox_row(record))
            return True

    def pending_records(self, limit: int) -> list[Record]:
        """The oldest records that the collector has not acknowledged."""
        with Session(self._reader) as session:
            rows = session.scalars(
                select(OutboxRow).where(OutboxRow.refused.is_(None)).order_by(OutboxRow.record_id).limit(limit)
            ).all()
        return [
            Record(
                record_id=row.record_id,
                event_name=row.event_name,
                turn_id=row.turn_id,
                trace_id=row.trace_id,
                span_id=row.span_id,
                time_ns=row.time_ns,
                body=row.body,
            )
            for row in rows
        ]

    def forget_records(self, record_ids: list[int]) -> None:
        """Deletes records that the collector has acknowledged."""
        with Session(self._engine) as session, session.begin():
            session.execute(delete(OutboxRow).where(OutboxRow.record_id.in_(record_ids)))

    def refuse_records(self, record_ids: list[int], why: str) -> None:
        """Keeps records that the collector will never take, out of the way and with the reason."""
        with Session(self._engine) as session, session.begin():
            session.execute(update(OutboxRow).where(OutboxRow.record_id.in_(record_ids)).values(refused=why))

    def outbox_depth(self) -> tuple[int, int, int | None]:
        """How many records wait, how many were refused, and the time of the oldest that waits (ns since 1970)."""
        with Session(self._reader) as session:
            waiting = OutboxRow.refused.is_(None)
            depth = session.scalar(select(func.count()).select_from(OutboxRow).where(waiting)) or 0
            refused = session.scalar(select(func.count()).select_from(OutboxRow).where(~waiting)) or 0
            oldest = session.scalar(select(func.min(OutboxRow.time_ns)).where(waiting))
        return depth, refused, oldest

    def ping(self) -> None:
        """Raises where the database cannot be reached."""
        with Session(self._reader) as session:
            session.execute(select(1))

    def close(self) -> None:
        """Closes all connections."""
        self._engine.dispose()


def _add_messages(session: Session, caller: str, conversation_id: str, messages: list[Message]) -> None:
    if session.get(ConversationRow, conversation_id) is None:
        session.add(ConversationRow(conversation_id=conversation_id, caller=caller, created_at=messages[0].created_at))
        session.flush()
    session.add_all(
        MessageRow(
            conversation_id=conversation_id,
            turn_id=message.turn_id,
            role=message.role,
            text=message.text,
            partial=message.partial,
            created_at=message.created_at,
        )
        for message in messages
    )
    session.flush()


def _outbox_row(record: Record) -> OutboxRow:
    return OutboxRow(
        event_name=record.event_name,
        turn_id=record.turn_id,
        trace_id=record.trace_id,
        span_id=record.span_id,
        time_ns=record.time_ns,
        body=record.body,
    )


def _stored(row: TurnRow) -> StoredTurn:
    return StoredTurn(
        turn_id=row.turn_id,
        caller=row.caller,
        conversation_id=row.conversation_id,
        state=row.state,
        payload_sha256=row.payload_sha256,
        accepted_at=row.accepted_at,
        ended_at=row.ended_at,
        last_seq=row.last_seq,
        terminal=row.terminal,
    )
