"""Frames of running turns, the instances that run them, and what another instance needs to serve or to close a turn."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds columns to turns, and two tables."""
    with op.batch_alter_table("turns") as turns:
        turns.add_column(sa.Column("span_id", sa.String(16)))
        turns.add_column(sa.Column("owner", sa.String(128)))
        turns.add_column(sa.Column("question", sa.Text()))
        turns.add_column(sa.Column("cancelled", sa.Boolean(), nullable=False, server_default=sa.false()))
        turns.add_column(sa.Column("watched_until", sa.Float()))
    op.create_index("ix_turns_ended_at", "turns", ["ended_at"])
    op.create_table(
        "turn_frames",
        sa.Column("turn_id", sa.String(64), sa.ForeignKey("turns.turn_id"), primary_key=True),
        sa.Column("first_seq", sa.Integer(), primary_key=True, autoincrement=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("frames", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "instances",
        sa.Column("instance", sa.String(128), primary_key=True),
        sa.Column("place", sa.String(255), nullable=False),
        sa.Column("process", sa.String(64), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=False),
    )
