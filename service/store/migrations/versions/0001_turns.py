"""Turns, their logs, conversations, messages and the outbox."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Makes the first tables."""
    op.create_table(
        "turns",
        sa.Column("turn_id", sa.String(64), primary_key=True),
        sa.Column("caller", sa.String(64), nullable=False),
        sa.Column("conversation_id", sa.String(64), nullable=False),
        sa.Column("trace_id", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("accepted_at", _TIME, nullable=False),
        sa.Column("deadline_ms", sa.Integer(), nullable=False),
        sa.Column("ended_at", _TIME),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("idempotency_key", sa.String(255)),
        sa.Column("payload_sha256", sa.String(64), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("terminal", sa.Text()),
        sa.UniqueConstraint("caller", "idempotency_key", name="uq_turns_caller_idempotency_key"),
    )
    op.create_index("ix_turns_state", "turns", ["state"])
    op.create_table(
        "turn_logs",
        sa.Column("turn_id", sa.String(64), sa.ForeignKey("turns.turn_id"), primary_key=True),
        sa.Column("frames", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "conversations",
        sa.Column("conversation_id", sa.String(64), primary_key=True),
        sa.Column("caller", sa.String(64), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
    )
    op.create_table(
        "messages",
        sa.Column("message_id", _ID, primary_key=True, autoincrement=True),
        sa.Column("conversation_id", sa.String(64), sa.ForeignKey("conversations.conversation_id"), nullable=False),
        sa.Column("turn_id", sa.String(64), sa.ForeignKey("turns.turn_id"), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("partial", sa.Boolean(), nullable=False),
        sa.Column("created_at", _TIME, nullable=False),
    )
    op.create_index("ix_messages_conversation", "messages", ["conversation_id", "message_id"])
    op.create_table(
        "outbox",
        sa.Column("record_id", _ID, primary_key=True, autoincrement=True),
        sa.Column("event_name", sa.String(32), nullable=False),
        sa.Column("turn_id", sa.String(64), nullable=False),
        sa.Column("trace_id", sa.String(32), nullable=False),
        sa.Column("span_id", sa.String(16), nullable=False),
        sa.Column("time_ns", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("refused", sa.Text()),
    )
    op.create_index("ix_outbox_refused_id", "outbox", ["refused", "record_id"])
