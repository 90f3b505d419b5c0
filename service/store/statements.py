"""The statements of a turn's life, built once.

A statement that is built anew for every turn costs many times what the database does with it: its cache key has to be made from all of its parts. These
are constants over the tables, executed with parameters. Owns no transaction.
"""

from __future__ import annotations

from functools import cache
from typing import Any, cast

from sqlalchemy import Table, bindparam, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from service.store.models import CallerUsageRow, ConversationRow, MessageRow, OutboxRow, TurnFramesRow, TurnLogRow, TurnRow


def _table(row: type[Any]) -> Table:
    return cast("Table", row.__table__)


_TURNS = _table(TurnRow)
_FRAMES = _table(TurnFramesRow)
_CONVERSATIONS = _table(ConversationRow)
_USAGE = _table(CallerUsageRow)
_OUTBOX = _table(OutboxRow)

INSERT_TURN = insert(_TURNS)
INSERT_RECORD = insert(_OUTBOX)
INSERT_FRAMES = insert(_FRAMES)
INSERT_LOG = insert(_table(TurnLogRow))
INSERT_CONVERSATION = insert(_CONVERSATIONS)
INSERT_MESSAGES = insert(_table(MessageRow))

MAX_FRAMES_ROWS = 64
"""Rows of frames that one statement stores."""
_ROW = "(?, ?, ?, ?)"
_INSERT_OPEN_FRAMES_SQLITE = """
INSERT INTO turn_frames (turn_id, first_seq, last_seq, frames)
SELECT * FROM (VALUES (?, ?, ?, ?)) WHERE EXISTS (SELECT 1 FROM turns WHERE turn_id = column1 AND state = 'open')
"""


@cache
def insert_open_frames_sqlite(rows: int) -> str:
    """The hottest statement of all, for the driver as it is: frames of so many turns, of those that are open.

    One statement and not one a row: with each the driver lets go of the interpreter, and has to wait for it behind a hundred workers.
    """
    return _INSERT_OPEN_FRAMES_SQLITE.replace(_ROW, ", ".join([_ROW] * rows))


PENDING_RECORDS = (
    select(*(column for column in _OUTBOX.c if column is not _OUTBOX.c.refused))
    .where(_OUTBOX.c.refused.is_(None))
    .order_by(_OUTBOX.c.record_id)
    .limit(bindparam("at_most"))
)
DELETE_RECORD = delete(_OUTBOX).where(_OUTBOX.c.record_id == bindparam("of_record"))

DELETE_FRAMES = delete(_FRAMES).where(_FRAMES.c.turn_id == bindparam("of_turn"))
CALLER_OF_CONVERSATION = select(_CONVERSATIONS.c.caller).where(_CONVERSATIONS.c.conversation_id == bindparam("of_conversation"))

END_TURN = (
    update(_TURNS)
    .where(_TURNS.c.turn_id == bindparam("of_turn"), _TURNS.c.state == "open")
    .values(
        state=bindparam("new_state"),
        ended_at=bindparam("new_ended_at"),
        last_seq=bindparam("new_last_seq"),
        terminal=bindparam("new_terminal"),
        question=None,
    )
)
"""Compares and sets. The idempotency key stays: it leads to the turn."""
END_TURN_AND_FREE_KEY = END_TURN.values(idempotency_key=None)
"""The same for a turn that showed nothing: its key can be used again."""


def _add_usage(dialect: Any) -> Any:
    row = dialect.insert(_USAGE)
    amounts = ("turns", "input_tokens", "output_tokens")
    return row.on_conflict_do_update(
        index_elements=[_USAGE.c.caller, _USAGE.c.day, _USAGE.c.shard],
        set_={name: _USAGE.c[name] + row.excluded[name] for name in amounts},
    )


ADD_USAGE = {"postgresql": _add_usage(postgresql), "sqlite": _add_usage(sqlite)}
"""By dialect: adds to the caller's row of the day."""
