"""Who may enter: the settings of the login, and what becomes of each kind of visitor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dashboard import access
from dashboard.access import Entry
from dashboard.settings import SECTION, DashboardSettings
from lastword.errors import SettingsError
from lastword.settings import load

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
LOGIN = {
    "oidc_issuer": "https://login.example.com/",
    "oidc_client_id": "it",
    "oidc_client_secret": "a secret",
    "oidc_allowed": "@example.com, Guest@Example.org",
}
ANN = {"is_logged_in": True, "email": "Ann@example.com", "email_verified": True, "iat": NOW.timestamp() - 60}


def chosen(**changed: Any) -> DashboardSettings:
    return DashboardSettings(**{**LOGIN, **changed})


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, Entry.ADMITTED),
        ({"email": "guest@example.org"}, Entry.ADMITTED),
        ({"email_verified": "true"}, Entry.ADMITTED),
        ({"is_logged_in": False}, Entry.UNKNOWN),
        ({"email": "other@example.org"}, Entry.NOT_LISTED),
        ({"email": "ann@sub.example.com"}, Entry.NOT_LISTED),
        ({"email": "ann@notexample.com"}, Entry.NOT_LISTED),
        ({"email": "x@evil.org@example.com"}, Entry.NOT_LISTED),
        ({"email": "@"}, Entry.NOT_LISTED),
        ({"email": None}, Entry.NOT_LISTED),
        ({"email_verified": False}, Entry.UNVERIFIED),
        ({"email_verified": None}, Entry.UNVERIFIED),
        ({"iat": None}, Entry.EXPIRED),
        ({"iat": (NOW - timedelta(hours=12, seconds=1)).timestamp()}, Entry.EXPIRED),
    ],
)
def test_a_visitor_is_judged_by_list_verification_and_age(claims: dict[str, Any], expected: Entry) -> None:
    """Whatever is missing counts against the visitor."""
    assert access.entry({**ANN, **claims}, chosen(), NOW) is expected


def test_nobody_is_judged_where_there_is_no_login() -> None:
    """The pages of a machine of one's own are open."""
    assert access.entry({}, DashboardSettings(), NOW) is Entry.ADMITTED


def test_a_star_lets_in_whom_the_provider_lets_in_and_nobody_else() -> None:
    """Without a login it opens nothing."""
    assert access.entry({"is_logged_in": True, "iat": NOW.timestamp()}, chosen(oidc_allowed="*"), NOW) is Entry.ADMITTED
    assert access.entry({}, chosen(oidc_allowed="*"), NOW) is Entry.UNKNOWN


def test_a_provider_that_verifies_no_addresses_can_be_trusted() -> None:
    """As somebody says in so many words."""
    assert access.entry({**ANN, "email_verified": None}, chosen(oidc_verified_email=False), NOW) is Entry.ADMITTED


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"oidc_client_id": ""}, "OIDC_CLIENT_ID"),
        ({"oidc_client_secret": ""}, "OIDC_CLIENT_SECRET"),
        ({"oidc_allowed": " "}, "OIDC_ALLOWED"),
        ({"oidc_issuer": "login.example.com"}, "OIDC_ISSUER"),
        ({"public_url": "dash.example.com"}, "PUBLIC_URL"),
        ({"oidc_cookie_secret": "short"}, "OIDC_COOKIE_SECRET"),
    ],
)
def test_half_a_login_stops_the_program(changed: dict[str, str], named: str) -> None:
    """The message names the variable."""
    with pytest.raises(SettingsError, match=named):
        access.check(chosen(**changed))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "dash.internal"])
def test_beyond_loopback_there_is_a_login_or_a_deliberate_word(host: str) -> None:
    """Nobody opens the pages to a network by accident."""
    with pytest.raises(SettingsError, match="OPEN_TO_NETWORK"):
        access.check(DashboardSettings(host=host))
    access.check(DashboardSettings(host=host, open_to_network=True))
    access.check(chosen(host=host, public_url="https://dash.example.com"))
    named = {"LASTWORD_DASHBOARD_OPEN_TO_NETWORK": "true", "LASTWORD_DASHBOARD_HOST": host}
    access.check(load(DashboardSettings, SECTION, named))


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_login(host: str) -> None:
    """Only this machine reaches it, and only by its own names."""
    access.check(DashboardSettings(host=host))
    assert {"localhost", "127.0.0.1", "::1"} <= set(access.hosts(DashboardSettings(host=host)))


def test_names_of_the_server_are_those_that_were_given() -> None:
    """A foreign name that leads here is no way in; an open server without an address takes any."""
    assert "dash.example.com" in access.hosts(DashboardSettings(public_url="https://dash.example.com"))
    assert access.hosts(DashboardSettings(host="0.0.0.0", open_to_network=True)) == []


def test_streamlit_is_told_where_to_ask_and_where_to_return(tmp_path: Path) -> None:
    """From an issuer, or from the address of its own description."""
    told = access.credentials(chosen(data_dir=str(tmp_path), public_url="https://dash.example.com/"))
    assert told is not None
    assert told["server_metadata_url"] == "https://login.example.com/.well-known/openid-configuration"
    assert told["redirect_uri"] == "https://dash.example.com/oauth2callback"
    again = access.credentials(chosen(data_dir=str(tmp_path), oidc_issuer=told["server_metadata_url"], host="::1"))
    assert again is not None
    assert again["server_metadata_url"] == told["server_metadata_url"]
    assert again["redirect_uri"] == "http://[::1]:8501/oauth2callback"
    assert access.credentials(DashboardSettings()) is None


def test_the_cookies_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    """A restart logs nobody out, and only the owner can read it."""
    folder = tmp_path / "data"
    made = access.kept_secret(folder)
    assert len(made) >= 32
    assert access.kept_secret(folder) == made
    assert [(path.name, path.stat().st_mode & 0o777) for path in folder.iterdir()] == [("dashboard-cookie-secret", 0o600)]
