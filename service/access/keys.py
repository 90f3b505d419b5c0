"""API keys in the database: made, listed, found and revoked.

Owns the form of a key and its row. The database keeps a digest only. Plain SHA-256 is enough for it, and quick: a key is 192 random bits, so
that there is nothing to guess, which slow password hashes are there to make expensive. Invariant: a row is never deleted, so
that "a key exists" never becomes untrue and a caller's turns keep their owner.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import datetime, timedelta

from msgspec import Struct
from sqlalchemy import Engine, func, or_, select, update
from sqlalchemy.orm import Session

from service.access.grants import Grant, Limits, Scope
from service.store.engine import FAST, READ_ONLY
from service.store.models import ApiKeyRow

KEY_PATTERN = r"lwk_[0-9a-f]{12}_[0-9a-f]{48}"
"""What a key of ours looks like, so that it can be told from other people's in a log or a leak."""
PREFIX_PATTERN = r"lwk_[0-9a-f]{12}"
_KEY = re.compile(KEY_PATTERN)
_PREFIX = re.compile(rf"({PREFIX_PATTERN})(?:_[0-9a-f]{{48}})?")
MAX_NAME_CHARS = 100
MAX_LISTED = 10_000
USED_STEP = timedelta(seconds=60)
"""How exact `last_used_at` is: it is not written more often."""


class StoredKey(Struct, frozen=True, kw_only=True):
    """A key without its secret. `prefix` is the part of the key that may be shown."""

    prefix: str
    name: str
    caller: str
    scopes: frozenset[Scope]
    limits: Limits
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None

    def state(self, now: datetime) -> str:
        """`active`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "active" if self.expires_at is None or now < self.expires_at else "expired"

    @property
    def grant(self) -> Grant:
        """What its bearer may do."""
        return Grant(caller=self.caller, scopes=self.scopes, limits=self.limits)


class NewKey(Struct, frozen=True, kw_only=True):
    """What a key is to be."""

    name: str
    scopes: frozenset[Scope]
    limits: Limits
    expires_at: datetime | None = None


def digest(secret: str) -> str:
    """What the database keeps of a key."""
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def looks_like_key(text: str) -> bool:
    """Whether the text has the form of a key of ours."""
    return _KEY.fullmatch(text) is not None


def prefix_of(text: str) -> str | None:
    """The prefix in a prefix or in a whole key; None where the text is neither."""
    match = _PREFIX.fullmatch(text)
    return match[1] if match else None


class KeyBook:
    """The keys of one database. Methods block, and each is one transaction."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._reader = engine.execution_options(**READ_ONLY)
        self._fast = engine.execution_options(**FAST)

    def create(self, new: NewKey, now: datetime) -> tuple[StoredKey, str]:
        """Stores a new key; with it the secret, which nobody can show again."""
        prefix = f"lwk_{secrets.token_hex(6)}"
        secret = f"{prefix}_{secrets.token_hex(24)}"
        row = ApiKeyRow(
            prefix=prefix,
            secret_sha256=digest(secret),
            caller=f"key_{prefix.removeprefix('lwk_')}",
            name=new.name,
            scopes=" ".join(sorted(new.scopes)),
            turns_per_minute=new.limits.turns_per_minute,
            tokens_per_day=new.limits.tokens_per_day,
            created_at=now,
            expires_at=new.expires_at,
        )
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.add(row)
        return _stored(row), secret

    def listed(self) -> list[StoredKey]:
        """All keys, the oldest first."""
        with Session(self._reader) as session:
            rows = session.scalars(select(ApiKeyRow).order_by(ApiKeyRow.created_at, ApiKeyRow.prefix).limit(MAX_LISTED))
            return [_stored(row) for row in rows]

    def find(self, secret_sha256: str) -> StoredKey | None:
        """The key of a digest, usable or not."""
        with Session(self._reader) as session:
            row = session.scalar(select(ApiKeyRow).where(ApiKeyRow.secret_sha256 == secret_sha256))
            return None if row is None else _stored(row)

    def revoke(self, prefix: str, now: datetime) -> tuple[StoredKey, bool] | None:
        """Ends a key for good; the key, and whether it was this call that revoked it. None where there is no such key."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            done = session.scalar(
                update(ApiKeyRow)
                .where(ApiKeyRow.prefix == prefix, ApiKeyRow.revoked_at.is_(None))
                .values(revoked_at=now)
                .returning(ApiKeyRow.prefix)
            )
            row = session.get(ApiKeyRow, prefix)
            return None if row is None else (_stored(row), done is not None)

    def note_use(self, key: StoredKey, now: datetime) -> None:
        """Writes when a key was used, unless that was written a moment ago."""
        if key.last_used_at is not None and now - key.last_used_at < USED_STEP:
            return
        with Session(self._fast) as session, session.begin():
            session.execute(update(ApiKeyRow).where(ApiKeyRow.prefix == key.prefix).values(last_used_at=now))

    def any_key(self) -> bool:
        """Whether a key was ever made."""
        with Session(self._reader) as session:
            return session.scalar(select(ApiKeyRow.prefix).limit(1)) is not None

    def count_usable(self, now: datetime) -> int:
        """How many keys are neither expired nor revoked."""
        alive = or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > now)
        with Session(self._reader) as session:
            return session.scalar(select(func.count()).select_from(ApiKeyRow).where(ApiKeyRow.revoked_at.is_(None), alive)) or 0


def _stored(row: ApiKeyRow) -> StoredKey:
    return StoredKey(
        prefix=row.prefix,
        name=row.name,
        caller=row.caller,
        scopes=frozenset(Scope(name) for name in row.scopes.split() if name in set(Scope)),
        limits=Limits(turns_per_minute=row.turns_per_minute, tokens_per_day=row.tokens_per_day),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
