"""Logs of ended turns are compressed from here on. No table changes: the number keeps a version that cannot read them from this database."""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Nothing: what is stored stays as it is, and is read."""
