"""Identifiers of turns and frames: how they are made and read.

A turn id carries 128 random bits, so that it cannot be guessed. A frame id is `{turnId}.{seq}`: it is the cursor that a client
sends back as `Last-Event-ID`.
"""

from __future__ import annotations

import re
import secrets

from lastword.errors import WireError

TURN_ID = re.compile(r"trn_[0-9a-f]{32}")
_FRAME_ID = re.compile(r"([A-Za-z0-9_-]{1,64})\.([0-9]{1,15})")


def new_turn_id() -> str:
    """A fresh turn id: `trn_` and 32 hexadecimal digits."""
    return f"trn_{secrets.token_hex(16)}"


def new_conversation_id() -> str:
    """A fresh conversation id: `cnv_` and 32 hexadecimal digits."""
    return f"cnv_{secrets.token_hex(16)}"


def frame_id(turn_id: str, seq: int) -> str:
    """The id of a frame, as it stands behind `id:`."""
    return f"{turn_id}.{seq}"


def parse_frame_id(text: str) -> tuple[str, int]:
    """The turn id and the sequence number of a frame id.

    Raises:
        WireError: the text is no frame id.
    """
    match = _FRAME_ID.fullmatch(text)
    if match is None:
        raise WireError(f"malformed event id {text[:80]!r}: expected {{turnId}}.{{seq}}")
    return match[1], int(match[2])
