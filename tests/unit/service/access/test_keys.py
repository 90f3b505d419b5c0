"""Keys in the database, and the callers behind them."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from lastword.errors import SettingsError
from service.access.callers import MAX_REMEMBERED, Callers, require
from service.access.duration import parse_expiry
from service.access.grants import ALL_SCOPES, ANONYMOUS, Grant, Limits, Scope
from service.access.keys import KEY_PATTERN, USED_STEP, KeyBook, NewKey, digest, prefix_of
from service.access.static import parse_static_keys
from service.problems import Rejected
from service.store.models import ApiKeyRow

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CACHE_S = 2


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.ns = 0

    def wall_ns(self):
        return round(NOW.timestamp() * 1e9) + self.ns

    def mono_ns(self):
        return self.ns

    def move(self, seconds):
        self.ns += round(seconds * 1e9)


class CountingBook(KeyBook):
    """Counts what the database is asked."""

    finds = 0

    def find(self, secret_sha256):
        self.finds += 1
        return super().find(secret_sha256)


@pytest.fixture
def book(engine):
    return CountingBook(engine)


@pytest.fixture
def clock():
    return HandClock()


@pytest.fixture
def callers(book, clock):
    return Callers(book, (), clock, cache_s=CACHE_S, open_on_loopback=False)


def new_key(**fields):
    return NewKey(**{"name": "web", "scopes": frozenset({Scope.ASK}), "limits": Limits(), **fields})


def status_of(call, *arguments):
    with pytest.raises(Rejected) as refused:
        call(*arguments)
    return refused.value.status


def test_database_holds_no_secret(engine, book):
    """A key is 192 random bits behind a prefix, and only its digest is stored."""
    key, secret = book.create(new_key(), NOW)
    assert re.fullmatch(KEY_PATTERN, secret)
    assert secret.startswith(key.prefix + "_")
    with Session(engine) as session:
        row = session.scalar(select(ApiKeyRow))
        stored = [str(getattr(row, column.name)) for column in ApiKeyRow.__table__.columns]
    assert digest(secret) in stored
    assert not any(secret.removeprefix(key.prefix) in value for value in stored)


def test_prefix_is_read_from_prefix_or_key():
    """Whole keys and prefixes name a key; anything else names none."""
    prefix = "lwk_" + "a" * 12
    assert prefix_of(prefix) == prefix_of(f"{prefix}_{'0' * 48}") == prefix
    assert [prefix_of(text) for text in ("", "lwk_", prefix + "b", f"{prefix}_0", "web")] == [None] * 5


def test_key_gives_its_scopes_and_limits(book, callers):
    """Who presents a key is its caller, with its scopes and limits and no others."""
    limits = Limits(turns_per_minute=3, tokens_per_day=9)
    key, secret = book.create(new_key(limits=limits), NOW)
    grant = callers.identify(secret)
    assert grant == Grant(caller=key.caller, scopes=frozenset({Scope.ASK}), limits=limits)
    require(grant, Scope.ASK)
    assert status_of(require, grant, Scope.READ) == 403


@pytest.mark.parametrize("bearer", [None, "", "x", "lwk_" + "a" * 12 + "_" + "0" * 48, "é\udc80"])
def test_unknown_key_is_401(book, callers, bearer):
    """Whatever is presented that is no key of ours."""
    book.create(new_key(), NOW)
    assert status_of(callers.identify, bearer) == 401
    assert callers.remembered(bearer) is None


def test_checked_key_is_remembered_within_its_bound(book, callers, clock):
    """One read of the database for all requests within the bound; another behind it."""
    _, secret = book.create(new_key(), NOW)
    callers.identify(secret)
    clock.move(CACHE_S - 0.001)
    callers.identify(secret)
    assert (book.finds, callers.remembered(secret) is not None) == (1, True)
    clock.move(0.001)
    assert callers.remembered(secret) is None
    callers.identify(secret)
    assert book.finds == 2


def test_revoked_key_stops_within_the_bound(book, callers, clock):
    """What was remembered works until the bound, and never behind it; revoking again changes nothing."""
    key, secret = book.create(new_key(), NOW)
    callers.identify(secret)
    assert book.revoke(key.prefix, NOW)[1]
    assert callers.identify(secret).caller == key.caller
    clock.move(CACHE_S)
    assert status_of(callers.identify, secret) == 401
    again, by_this_call = book.revoke(key.prefix, NOW + timedelta(days=1))
    assert (by_this_call, again.revoked_at) == (False, NOW)
    assert book.revoke("lwk_" + "0" * 12, NOW) is None


def test_key_ends_at_its_time_even_where_it_is_remembered(book, callers, clock):
    """The end of a key needs no read of the database."""
    _, secret = book.create(new_key(expires_at=NOW + timedelta(seconds=1)), NOW)
    callers.identify(secret)
    clock.move(1)
    assert callers.remembered(secret) is None
    assert status_of(callers.identify, secret) == 401


def test_memory_of_keys_is_bounded_and_guesses_do_not_fill_it(book, callers, monkeypatch):
    """The oldest leaves; what is no key is never kept."""
    monkeypatch.setattr("service.access.callers.MAX_REMEMBERED", 2)
    secrets = [book.create(new_key(), NOW)[1] for _ in range(3)]
    for secret in secrets:
        callers.identify(secret)
    assert [callers.remembered(secret) is None for secret in secrets] == [True, False, False]
    for number in range(5):
        assert status_of(callers.identify, f"lwk_{number:012x}_{'0' * 48}") == 401
    assert [callers.remembered(secret) is None for secret in secrets] == [True, False, False]
    assert MAX_REMEMBERED > 100


def test_nothing_needs_a_key_on_loopback_until_there_is_one(book, clock):
    """The first key closes the service within the bound, and revoking it does not open it again."""
    callers = Callers(book, (), clock, cache_s=CACHE_S, open_on_loopback=True)
    assert callers.identify(None) == Grant(caller=ANONYMOUS, scopes=ALL_SCOPES)
    assert callers.remembered("anything").caller == ANONYMOUS
    key, secret = book.create(new_key(), NOW)
    clock.move(CACHE_S)
    assert status_of(callers.identify, None) == 401
    assert callers.identify(secret).caller == key.caller
    book.revoke(key.prefix, NOW)
    clock.move(CACHE_S)
    assert status_of(callers.identify, None) == 401


def test_static_keys_have_every_scope_and_their_limits(book, clock):
    """They are found without the database, and close the service like any key."""
    static = parse_static_keys("alpha, beta;rate=3;tokens=50")
    callers = Callers(book, static, clock, cache_s=CACHE_S, open_on_loopback=True)
    assert callers.remembered("alpha").scopes == ALL_SCOPES
    assert callers.identify("beta").limits == Limits(turns_per_minute=3, tokens_per_day=50)
    assert callers.identify("alpha").caller != callers.identify("beta").caller
    assert (status_of(callers.identify, None), status_of(callers.identify, "beta;rate=3"), book.finds) == (401, 401, 0)


@pytest.mark.parametrize("text", ["a;rate=0", "a;rate=x", "a;rate", "a;rate=1000001", "a;limit=3", ";rate=3", "a;rate=-1"])
def test_wrong_option_of_a_static_key_is_refused(text):
    """Out of range, unknown, or without a key."""
    with pytest.raises(SettingsError, match="LASTWORD_SERVICE_API_KEYS: entry 1"):
        parse_static_keys(text)


def test_use_is_noted_about_once_a_minute(book, callers, clock):
    """`last_used_at` is written when it is a minute old, not for every request."""
    _, secret = book.create(new_key(), NOW)
    callers.identify(secret)
    clock.move(USED_STEP.total_seconds() - 1)
    callers.identify(secret)
    assert book.listed()[0].last_used_at == NOW
    clock.move(CACHE_S)
    callers.identify(secret)
    assert book.listed()[0].last_used_at == NOW + timedelta(seconds=USED_STEP.total_seconds() + CACHE_S - 1)


def test_use_that_cannot_be_noted_turns_nobody_away(book, callers, monkeypatch, caplog):
    """The database may be read-only for a while."""
    key, secret = book.create(new_key(), NOW)

    def fail(key, now):
        raise OperationalError("update", {}, Exception("read-only"))

    monkeypatch.setattr(book, "note_use", fail)
    assert callers.identify(secret).caller == key.caller
    assert key.prefix in caplog.text
    assert secret not in caplog.text


def test_usable_keys_are_counted(book):
    """Neither revoked nor expired ones."""
    assert (book.any_key(), book.count_usable(NOW)) == (False, 0)
    revoked, _ = book.create(new_key(), NOW)
    book.revoke(revoked.prefix, NOW)
    book.create(new_key(expires_at=NOW), NOW)
    book.create(new_key(expires_at=NOW + timedelta(seconds=1)), NOW)
    assert (book.any_key(), book.count_usable(NOW)) == (True, 1)
    assert [key.state(NOW) for key in book.listed()].count("active") == 1


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("30d", NOW + timedelta(days=30)),
        ("12h", NOW + timedelta(hours=12)),
        ("90m", NOW + timedelta(minutes=90)),
        ("2026-01-02", datetime(2026, 1, 3, tzinfo=UTC)),
        ("2027-02-28", datetime(2027, 3, 1, tzinfo=UTC)),
    ],
)
def test_expiry_is_read(text, end):
    """Spans from now, and days to their end."""
    assert parse_expiry(text, NOW) == end


@pytest.mark.parametrize(
    "text", ["", "0d", "30", "d", "-1d", "1.5d", "999999d", "2026-01-01", "2300-01-01", "2027-02-30", "5y"]
)
def test_wrong_expiry_is_refused(text):
    """What is over, never comes, or is no time."""
    with pytest.raises(ValueError, match=r"hundred years|write 30d"):
        parse_expiry(text, NOW)
