"""Bearer tokens of senders. Knows no transport. A token is compared in constant time, and stands in no message and no log."""

from __future__ import annotations

import base64
import binascii
import hmac
from hashlib import sha256


class Tokens:
    """The tokens that are let in; where there is none, everybody is."""

    def __init__(self, tokens: str) -> None:
        """From a list separated by commas."""
        self._digests = [_digest(token.strip()) for token in tokens.split(",") if token.strip()]

    def __bool__(self) -> bool:
        """Whether senders are asked for one."""
        return bool(self._digests)

    def admit(self, authorization: str) -> bool:
        """Whether the header's token is one of them.

        Senders write `Bearer TOKEN`; `Basic` with the token as the password, as Langfuse's do; or the token alone, as Logfire's do.
        """
        if not self._digests:
            return True
        scheme, _, value = authorization.strip().partition(" ")
        match scheme.lower(), value.strip():
            case "bearer", shown:
                pass
            case "basic", encoded:
                shown = _password(encoded)
            case _, "":
                shown = scheme
            case _:
                return False
        digest = _digest(shown)
        # Every one is compared, so that the time says nothing of which was nearly right.
        return sum(hmac.compare_digest(digest, known) for known in self._digests) > 0


def _password(value: str) -> str:
    """The password of basic authentication; empty, which is nobody's token, where there is none."""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
