"""What the service keeps, as operations: every method is one transaction.

Synchronous: called from worker threads, readers and the outbox's thread only. Writes go through the `Writer`, reads have connections of their own. Invariants: a
turn is ended once (`end_turn` compares and sets); the record that tells the collector of it is written in the same transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Engine, Select, func, select, update
from sqlalchemy.exc import IntegrityError

from service.access.usage import add_usage
from service.log import TurnLog
from service.store.ahead import AheadFile, continued
from service.store.data import Closing, DuplicateKey, EndedTurn, Message, NewTurn, OpenTurn, Record, StoredTurn
from service.store.engine import READ_ONLY
from service.store.models import ConversationRow, MessageRow, OutboxRow, TurnFramesRow, TurnLogRow, TurnRow
from service.store.statements import (
    CALLER_OF_CONVERSATION,
    DELETE_FRAMES,
    DELETE_RECORD,
    END_TURN,
    END_TURN_AND_FREE_KEY,
    INSERT_CONVERSATION,
    INSERT_LOG,
    INSERT_MESSAGES,
    INSERT_RECORD,
    INSERT_TURN,
    PENDING_RECORDS,
)
from service.store.writer import InlineWriter, Writer

_FREED_KEYS = 9
"""How often a key may be freed under the eyes of who wants it."""


class _EndedBefore(Exception):
    """The turn has a terminal: what this transaction wrote is undone."""


class TurnStore:
    """The database behind the service. `notify` is called, inside the transaction, with turns that ended, for other instances to hear."""

    def __init__(
        self,
        engine: Engine,
        writer: Writer | None = None,
        notify: Callable[[Connection, list[str]], None] | None = None,
        ahead: AheadFile | None = None,
    ) -> None:
        self._engine = engine
        self._reader = engine.execution_options(**READ_ONLY)
        self._writer = writer or InlineWriter(engine)
        self._notify = notify
        self._ahead = ahead

    # --- the life of a turn

    def accept_turn(self, turn: NewTurn, record: Record, allow: Callable[[Connection], None] | None = None) -> None:
        """Stores a turn as open, with its `turn.accepted` record.

        `allow` runs in the same transaction once the claim is known to be new; what it raises undoes everything.

        Raises:
            DuplicateKey: the idempotency key is taken; nothing was stored.
        """
        for last_try in [False] * _FREED_KEYS + [True]:
            try:
                self._claim(turn, record, allow)
            except IntegrityError:
                if turn.idempotency_key is None:
                    raise
                existing = self._by_key(turn.caller, turn.idempotency_key)
                if existing is not None:
                    raise DuplicateKey(existing) from None
                if last_try:
                    raise
                # Between the refusal and the look, a turn that was never acknowledged ended and freed its key: it is this turn's now.
            else:
                return

    def _claim(self, turn: NewTurn, record: Record, allow: Callable[[Connection], None] | None) -> None:
        row = {
            "turn_id": turn.turn_id,
            "caller": turn.caller,
            "conversation_id": turn.conversation_id,
            "trace_id": turn.trace_id,
            "span_id": turn.span_id or None,
            "owner": turn.owner or None,
            "state": "open",
            "accepted_at": turn.accepted_at,
            "deadline_ms": turn.deadline_ms,
            "last_seq": 0,
            "idempotency_key": turn.idempotency_key,
            "payload_sha256": turn.payload_sha256,
            "labels": turn.labels,
            "question": turn.question or None,
            "cancelled": False,
        }

        def accept(connection: Connection) -> None:
            connection.execute(INSERT_TURN, row)
            _add_record(connection, record)
            if allow is not None:
                allow(connection)

        if allow is not None and self._engine.dialect.name != "sqlite":
            # The caller's bucket is a row that other instances lock too: alone in its transaction it cannot deadlock with another bucket.
            with self._engine.begin() as connection:
                accept(connection)
        else:
            self._writer.run(accept)

    def _by_key(self, caller: str, key: str) -> StoredTurn | None:
        return self._find(select(TurnRow).where(TurnRow.caller == caller, TurnRow.idempotency_key == key))

    def _find(self, turns: Select[TurnRow]) -> StoredTurn | None:
        with self._reader.connect() as connection:
            row = connection.execute(turns).first()
            return None if row is None else stored_turn(row)

    @property
    def is_ahead(self) -> bool:
        """Whether frames may be shown before they are stored: kept meanwhile where a crash leaves them."""
        return self._ahead is not None and self._ahead.is_open

    def save_frames(self, log: TurnLog) -> None:
        """Something was appended to the log of an open turn: it is stored, and then shown. `ack` is on the disk before it is shown."""
        acknowledged = log.shown_seq > 0
        shown = acknowledged and self._ahead is not None and self._ahead.show(log)
        self._writer.save(log, fast=acknowledged, shown=shown)

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

        `close` builds the terminal after the messages are written, so that its timings hold the cost of writing them; it is called in the
        writer's thread. False where the turn had ended already: then nothing was stored.
        """

        def end(connection: Connection) -> None:
            if messages:
                _add_messages(connection, caller, conversation_id, messages)
            ended, record = close()
            self._end(connection, caller, ended, record)

        try:
            self._writer.run(end)
        except _EndedBefore:
            return False
        return True

    def recover_turn(self, turn_id: str, kept: Mapping[int, bytes], close: Callable[[OpenTurn], Closing]) -> bool:
        """Ends a turn in place of its instance, from what is stored of it, and of what was kept beside it, by sequence number. False where it has ended."""

        def recover(connection: Connection) -> None:
            its = select(TurnRow).where(TurnRow.turn_id == turn_id, TurnRow.state == "open").with_for_update()
            row = connection.execute(its).first()
            if row is None:
                raise _EndedBefore
            stored = select(TurnFramesRow.frames, TurnFramesRow.last_seq).where(TurnFramesRow.turn_id == turn_id)
            pieces = connection.execute(stored.order_by(TurnFramesRow.first_seq)).all()
            _, shown = continued(pieces[-1].last_seq if pieces else 0, kept)
            closing = close(
                OpenTurn(
                    turn_id=turn_id,
                    caller=row.caller,
                    conversation_id=row.conversation_id,
                    trace_id=row.trace_id,
                    span_id=row.span_id or "0" * 16,
                    accepted_at=row.accepted_at,
                    question=row.question or "",
                    frames=b"".join(piece.frames for piece in pieces) + shown,
                )
            )
            if closing.messages:
                _add_messages(connection, row.caller, row.conversation_id, closing.messages)
            self._end(connection, row.caller, closing.ended, closing.record)

        try:
            self._writer.run(recover)
        except _EndedBefore:
            return False
        return True

    def _end(self, connection: Connection, caller: str, ended: EndedTurn, record: Record) -> None:
        """The one place where a turn gets its terminal: compares and sets."""
        won = connection.execute(
            END_TURN if ended.frames else END_TURN_AND_FREE_KEY,
            {
                "of_turn": ended.turn_id,
                "new_state": ended.state,
                "new_ended_at": ended.ended_at,
                "new_last_seq": ended.last_seq,
                "new_terminal": ended.terminal,
            },
        )
        if not _count(won):
            raise _EndedBefore
        connection.execute(DELETE_FRAMES, {"of_turn": ended.turn_id})
        connection.execute(INSERT_LOG, {"turn_id": ended.turn_id, "frames": ended.frames})
        _add_record(connection, record)
        if ended.last_seq:
            add_usage(connection, caller, ended.ended_at, ended.usage)
        if self._notify is not None:
            self._notify(connection, [ended.turn_id])

    # --- reading

    def find_turn(self, turn_id: str) -> StoredTurn | None:
        """A turn by its id."""
        return self._find(select(TurnRow).where(TurnRow.turn_id == turn_id))

    def find_log(self, turn_id: str) -> bytes | None:
        """The whole log of an ended turn, as long as it is kept."""
        with self._reader.connect() as connection:
            return connection.scalar(select(TurnLogRow.frames).where(TurnLogRow.turn_id == turn_id))

    def find_frames(self, turn_id: str, after: int = 0) -> bytes:
        """The frames of an open turn behind a sequence number, as far as they are stored. A piece that begins before it comes whole."""
        with self._reader.connect() as connection:
            pieces = connection.scalars(
                select(TurnFramesRow.frames)
                .where(TurnFramesRow.turn_id == turn_id, TurnFramesRow.last_seq > after)
                .order_by(TurnFramesRow.first_seq)
            )
            return b"".join(pieces)

    def conversation_owner(self, conversation_id: str) -> str | None:
        """The caller that a conversation belongs to; None where there is no such conversation."""
        with self._reader.connect() as connection:
            return connection.scalar(select(ConversationRow.caller).where(ConversationRow.conversation_id == conversation_id))

    def messages(self, conversation_id: str, limit: int) -> list[Message]:
        """The newest `limit` messages of a conversation, oldest first."""
        with self._reader.connect() as connection:
            rows = connection.execute(
                select(MessageRow)
                .where(MessageRow.conversation_id == conversation_id)
                .order_by(MessageRow.message_id.desc())
                .limit(limit)
            ).all()
        return [
            Message(role=row.role, text=row.text, turn_id=row.turn_id, partial=row.partial, created_at=row.created_at)
            for row in reversed(rows)
        ]

    # --- the outbox

    def pending_records(self, limit: int) -> list[Record]:
        """The oldest records that the collector has not acknowledged."""
        with self._reader.connect() as connection:
            return [Record(**row) for row in connection.execute(PENDING_RECORDS, {"at_most": limit}).mappings()]

    def forget_records(self, record_ids: list[int]) -> None:
        """Deletes records that the collector has acknowledged. A power cut that undoes it has them sent again, which does no harm."""
        rows = [{"of_record": record_id} for record_id in record_ids]
        self._writer.run(lambda connection: connection.execute(DELETE_RECORD, rows), fast=True)

    def refuse_records(self, record_ids: list[int], why: str) -> None:
        """Keeps records that the collector will never take, out of the way and with the reason."""
        self._writer.run(
            lambda connection: connection.execute(
                update(OutboxRow).where(OutboxRow.record_id.in_(record_ids)).values(refused=why)
            )
        )

    def outbox_depth(self) -> tuple[int, int, int | None]:
        """How many records wait, how many were refused, and the time of the oldest that waits (ns since 1970)."""
        with self._reader.connect() as connection:
            waiting = OutboxRow.refused.is_(None)
            depth = connection.scalar(select(func.count()).select_from(OutboxRow).where(waiting)) or 0
            refused = connection.scalar(select(func.count()).select_from(OutboxRow).where(~waiting)) or 0
            oldest = connection.scalar(select(func.min(OutboxRow.time_ns)).where(waiting))
        return depth, refused, oldest

    # --- the database itself

    def ping(self) -> None:
        """Raises where the database cannot be reached."""
        with self._reader.connect() as connection:
            connection.execute(select(1))

    def close(self) -> None:
        """Writes what waits and closes all connections."""
        self._writer.close()
        if self._ahead is not None:
            self._ahead.close()
        self._engine.dispose()


def _count(result: Any) -> int:
    return int(result.rowcount)


def _add_messages(connection: Connection, caller: str, conversation_id: str, messages: list[Message]) -> None:
    known = connection.scalar(CALLER_OF_CONVERSATION, {"of_conversation": conversation_id})
    if known is None:
        begun = {"conversation_id": conversation_id, "caller": caller, "created_at": messages[0].created_at}
        connection.execute(INSERT_CONVERSATION, begun)
    elif known != caller:
        return  # two callers began a conversation under one name at the same time: it is the first one's
    rows = [
        {
            "conversation_id": conversation_id,
            "turn_id": message.turn_id,
            "role": message.role,
            "text": message.text,
            "partial": message.partial,
            "created_at": message.created_at,
        }
        for message in messages
    ]
    connection.execute(INSERT_MESSAGES, rows)


def _add_record(connection: Connection, record: Record) -> None:
    connection.execute(
        INSERT_RECORD,
        {
            "event_name": record.event_name,
            "turn_id": record.turn_id,
            "trace_id": record.trace_id,
            "span_id": record.span_id,
            "time_ns": record.time_ns,
            "body": record.body,
        },
    )


def stored_turn(row: Any) -> StoredTurn:
    """A row as plain data."""
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
