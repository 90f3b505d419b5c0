"""From a presented key to a grant: what runs at the start of every request.

Owns the memory of checked keys. A key is hashed once and found in a dictionary; the database is asked where it is not there or was put
there longer than `cache_s` ago, which bounds how long a revoked key still works. Only keys that exist are remembered, so that guessing fills
nothing, and the number of them is bounded. Thread-safe.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from datetime import datetime
from typing import Protocol

from msgspec import Struct
from sqlalchemy.exc import SQLAlchemyError

from service import problems
from service.access.grants import ANONYMOUS, Grant, Scope
from service.access.keys import StoredKey, digest, looks_like_key
from service.access.static import StaticKey
from service.clock import Clock, as_datetime

logger = logging.getLogger(__name__)

MAX_REMEMBERED = 4096


class Book(Protocol):
    """The keys in the database, as far as this module needs them."""

    def find(self, secret_sha256: str) -> StoredKey | None:
        """The key of a digest."""
        ...

    def any_key(self) -> bool:
        """Whether a key was ever made."""
        ...

    def note_use(self, key: StoredKey, now: datetime) -> None:
        """Writes when it was used."""
        ...


class _Remembered(Struct, frozen=True):
    key: StoredKey
    checked_ns: int


class Callers:
    """Tells who asks."""

    def __init__(
        self, book: Book, static: tuple[StaticKey, ...], clock: Clock, *, cache_s: float, open_on_loopback: bool
    ) -> None:
        self._book = book
        self._clock = clock
        self._cache_ns = round(cache_s * 1e9)
        self._static = {digest(key.secret): _static_grant(key) for key in static}
        self._lock = threading.Lock()
        self._known: OrderedDict[str, _Remembered] = OrderedDict()
        self._may_be_open = open_on_loopback and not static
        self._open_until_ns = 0

    def remembered(self, bearer: str | None) -> Grant | None:
        """The caller, where it can be told without asking the database. Never blocks."""
        if self._may_be_open and self._clock.mono_ns() < self._open_until_ns:
            return Grant(caller=ANONYMOUS)
        return self._recall(digest(bearer)) if bearer else None

    def identify(self, bearer: str | None) -> Grant:
        """The caller behind a key; blocks where the database has to be asked.

        Raises:
            Rejected: 401.
        """
        if self._is_open():
            return Grant(caller=ANONYMOUS)
        if not bearer:
            raise problems.unauthorized()
        secret_sha256 = digest(bearer)
        grant = self._recall(secret_sha256)
        if grant is None and looks_like_key(bearer):
            grant = self._look_up(secret_sha256)
        if grant is None:
            raise problems.unauthorized()
        return grant

    def _is_open(self) -> bool:
        """Whether everybody may ask: on loopback, as long as there is no key at all. Once there was one, never again."""
        if not self._may_be_open:
            return False
        now_ns = self._clock.mono_ns()
        if now_ns < self._open_until_ns:
            return True
        if self._book.any_key():
            self._may_be_open = False
            return False
        self._open_until_ns = now_ns + self._cache_ns
        return True

    def _recall(self, secret_sha256: str) -> Grant | None:
        static = self._static.get(secret_sha256)
        if static is not None:
            return static
        with self._lock:
            found = self._known.get(secret_sha256)
            if found is None or self._clock.mono_ns() - found.checked_ns >= self._cache_ns:
                return None
            self._known.move_to_end(secret_sha256)
        return found.key.grant if found.key.state(self._now()) == "active" else None

    def _look_up(self, secret_sha256: str) -> Grant | None:
        checked_ns = self._clock.mono_ns()  # before the read: the answer may be older than its arrival
        key = self._book.find(secret_sha256)
        now = self._now()
        if key is None or key.state(now) != "active":
            with self._lock:
                self._known.pop(secret_sha256, None)
            return None
        with self._lock:
            self._known[secret_sha256] = _Remembered(key, checked_ns)
            self._known.move_to_end(secret_sha256)
            while len(self._known) > MAX_REMEMBERED:
                self._known.popitem(last=False)
        try:
            self._book.note_use(key, now)
        except SQLAlchemyError:  # the time of last use is for people who tidy up; no caller is turned away for it
            logger.warning("the use of %s could not be noted", key.prefix, exc_info=True)
        return key.grant

    def _now(self) -> datetime:
        return as_datetime(self._clock.wall_ns())


def _static_grant(key: StaticKey) -> Grant:
    return Grant(caller=static_caller(key.secret), limits=key.limits)


def static_caller(secret: str) -> str:
    """The caller of a static key: a digest of it, which is what the database keeps."""
    return "key_" + digest(secret)[:32]


def require(grant: Grant, scope: Scope) -> None:
    """Lets a caller pass that has the scope.

    Raises:
        Rejected: 403.
    """
    if scope not in grant.scopes:
        raise problems.forbidden(scope.value)
