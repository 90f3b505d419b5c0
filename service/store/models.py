"""The tables. Migrations under `migrations/` must lead to exactly these; a test compares them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import zstandard
from sqlalchemy import (
    JSON,
    BigInteger,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A time with its zone, always UTC: SQLite forgets the zone, so it is put back."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC on the way in."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """UTC on the way out."""
        if value is None:
            return None
        time: datetime = value
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


class Packed(TypeDecorator[bytes]):
    """Bytes that are kept compressed (zstd): a log says the same names in every frame and shrinks to a tenth. What was stored before is read as it is."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes | None:
        """Compressed on the way in."""
        return zstandard.ZstdCompressor(level=1).compress(value) if value else value

    def process_result_value(self, value: Any | None, dialect: Dialect) -> bytes | None:
        """As it was on the way out."""
        if value is None or not value.startswith(zstandard.FRAME_HEADER):
            return value
        unpacked: bytes = zstandard.ZstdDecompressor().decompress(value)
        return unpacked


class Base(DeclarativeBase):
    """Base of all tables."""


class TurnRow(Base):
    """A turn: accepted, and later ended once."""

    __tablename__ = "turns"
    __table_args__ = (
        UniqueConstraint("caller", "idempotency_key", name="uq_turns_caller_idempotency_key"),
        Index("ix_turns_state", "state"),
        Index("ix_turns_ended_at", "ended_at"),
    )

    turn_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    caller: Mapped[str] = mapped_column(String(64))
    conversation_id: Mapped[str] = mapped_column(String(64))
    trace_id: Mapped[str] = mapped_column(String(32))
    span_id: Mapped[str | None] = mapped_column(String(16))  # of the root span
    owner: Mapped[str | None] = mapped_column(String(128))  # the instance that runs it
    state: Mapped[str] = mapped_column(String(16))  # open, done, error
    accepted_at: Mapped[datetime] = mapped_column(UtcDateTime())
    deadline_ms: Mapped[int] = mapped_column(Integer())
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    last_seq: Mapped[int] = mapped_column(Integer(), default=0)
    idempotency_key: Mapped[str | None] = mapped_column(String(255))
    payload_sha256: Mapped[str] = mapped_column(String(64))
    labels: Mapped[dict[str, str]] = mapped_column(JSON())  # the caller's `metadata`
    terminal: Mapped[str | None] = mapped_column(Text())  # the terminal event as JSON
    question: Mapped[str | None] = mapped_column(Text())  # while the turn is open; later it stands in `messages`
    cancelled: Mapped[bool] = mapped_column(default=False)  # somebody asked to stop it, perhaps at another instance
    watched_until: Mapped[float | None] = mapped_column(Float())  # viewers at other instances, seconds since 1970


class TurnFramesRow(Base):
    """Frames of a turn that runs, in pieces of one or more. When it ends they become its log."""

    __tablename__ = "turn_frames"

    turn_id: Mapped[str] = mapped_column(ForeignKey("turns.turn_id"), primary_key=True)
    first_seq: Mapped[int] = mapped_column(Integer(), primary_key=True, autoincrement=False)
    last_seq: Mapped[int] = mapped_column(Integer())
    frames: Mapped[bytes] = mapped_column(LargeBinary())


class InstanceRow(Base):
    """A process that runs turns, for as long as its lease is renewed. Its place and process tell at once where it has died."""

    __tablename__ = "instances"

    instance: Mapped[str] = mapped_column(String(128), primary_key=True)
    place: Mapped[str] = mapped_column(String(255))  # machine, boot and process namespace
    process: Mapped[str] = mapped_column(String(64))  # process id and start time
    lease_until: Mapped[float] = mapped_column(Float())  # seconds since 1970, by the database's clock


class TurnLogRow(Base):
    """The whole log of an ended turn, byte for byte as it went out. Gone once its retention is over."""

    __tablename__ = "turn_logs"

    turn_id: Mapped[str] = mapped_column(ForeignKey("turns.turn_id"), primary_key=True)
    frames: Mapped[bytes] = mapped_column(Packed())


class ConversationRow(Base):
    """A conversation, which belongs to the caller that began it."""

    __tablename__ = "conversations"

    conversation_id: Mapped[str] = mapped_column(String(64), primary_key=True)
    caller: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())


class MessageRow(Base):
    """A canonical message of a conversation."""

    __tablename__ = "messages"
    __table_args__ = (Index("ix_messages_conversation", "conversation_id", "message_id"),)

    message_id: Mapped[int] = mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    )
    conversation_id: Mapped[str] = mapped_column(ForeignKey("conversations.conversation_id"))
    turn_id: Mapped[str] = mapped_column(ForeignKey("turns.turn_id"))
    role: Mapped[str] = mapped_column(String(16))  # user, assistant
    text: Mapped[str] = mapped_column(Text())
    partial: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())


class OutboxRow(Base):
    """A turn record that the collector has not acknowledged yet. Deleted when it has; `refused` where it never will."""

    __tablename__ = "outbox"
    __table_args__ = (Index("ix_outbox_refused_id", "refused", "record_id"),)

    record_id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)
    event_name: Mapped[str] = mapped_column(String(32))
    turn_id: Mapped[str] = mapped_column(String(64))
    trace_id: Mapped[str] = mapped_column(String(32))
    span_id: Mapped[str] = mapped_column(String(16))
    time_ns: Mapped[int] = mapped_column(BigInteger())
    body: Mapped[str] = mapped_column(Text())
    refused: Mapped[str | None] = mapped_column(Text())  # why the collector will never take it


class ApiKeyRow(Base):
    """An API key: a digest of it, and what its bearer may do. Never deleted."""

    __tablename__ = "api_keys"

    prefix: Mapped[str] = mapped_column(String(32), primary_key=True)  # the part that may be shown
    secret_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    caller: Mapped[str] = mapped_column(String(64))
    name: Mapped[str] = mapped_column(String(100))
    scopes: Mapped[str] = mapped_column(String(255))  # separated by spaces
    turns_per_minute: Mapped[int | None] = mapped_column(Integer())
    tokens_per_day: Mapped[int | None] = mapped_column(BigInteger())
    created_at: Mapped[datetime] = mapped_column(UtcDateTime())
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime())
    last_used_at: Mapped[datetime | None] = mapped_column(UtcDateTime())


class CallerBucketRow(Base):
    """The token bucket of a caller with a rate limit: when it will be full again."""

    __tablename__ = "caller_buckets"

    caller: Mapped[str] = mapped_column(String(64), primary_key=True)
    full_at_ns: Mapped[int] = mapped_column(BigInteger())  # since 1970


class CallerUsageRow(Base):
    """What a caller used in a day (UTC), as far as one process counted it. Readers sum over `shard`."""

    __tablename__ = "caller_usage"

    caller: Mapped[str] = mapped_column(String(64), primary_key=True)
    day: Mapped[date] = mapped_column(Date(), primary_key=True)
    shard: Mapped[str] = mapped_column(String(16), primary_key=True)
    turns: Mapped[int] = mapped_column(BigInteger())
    input_tokens: Mapped[int] = mapped_column(BigInteger())
    output_tokens: Mapped[int] = mapped_column(BigInteger())
