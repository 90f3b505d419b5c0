"""Who may see the pages: the settings of the login, what Streamlit is told of them, and whether an identity may enter.

Pure but for the cookies' secret, which is kept in the data folder. Knows no Streamlit. Invariant: where login is on, whoever is not on the list sees nothing; where it is off, only this
machine reaches the pages, unless somebody said otherwise in so many words.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dashboard.settings import DashboardSettings
from lastword.errors import SettingsError

DISCOVERY = "/.well-known/openid-configuration"
CALLBACK = "/oauth2callback"
EVERYBODY = "*"
_SECRET_FILE = "dashboard-cookie-secret"
_LEAST_SECRET_CHARS = 32


class Entry(Enum):
    """What becomes of a visitor."""

    ADMITTED = "admitted"
    UNKNOWN = "unknown"
    EXPIRED = "expired"
    UNVERIFIED = "unverified"
    NOT_LISTED = "not listed"


def check(chosen: DashboardSettings) -> None:
    """That login is set whole or not at all, and that without it nobody else reaches the pages by accident.

    Raises:
        SettingsError: the message says what is missing.
    """
    if not chosen.oidc_issuer:
        _check_open(chosen)
        return
    for name in ("oidc_client_id", "oidc_client_secret", "oidc_allowed"):
        if not getattr(chosen, name).strip():
            raise SettingsError(
                f"LASTWORD_DASHBOARD_OIDC_ISSUER turns login on, and it needs LASTWORD_DASHBOARD_{name.upper()} too"
            )
    for name, url in (("OIDC_ISSUER", chosen.oidc_issuer), ("PUBLIC_URL", public_url(chosen))):
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsError(f"LASTWORD_DASHBOARD_{name}: {url!r} is no address such as https://login.example.com")
    if chosen.oidc_cookie_secret and len(chosen.oidc_cookie_secret) < _LEAST_SECRET_CHARS:
        raise SettingsError(f"LASTWORD_DASHBOARD_OIDC_COOKIE_SECRET has fewer than {_LEAST_SECRET_CHARS} characters")


def _check_open(chosen: DashboardSettings) -> None:
    if not is_loopback(chosen.host) and not chosen.open_to_network:
        raise SettingsError(
            f"LASTWORD_DASHBOARD_HOST={chosen.host} can be reached from other machines, and the pages have no login. Turn login on "
            "(LASTWORD_DASHBOARD_OIDC_ISSUER), or set LASTWORD_DASHBOARD_OPEN_TO_NETWORK=true where something else asks who is there"
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name of the network
        return False


def public_url(chosen: DashboardSettings) -> str:
    """The address that people reach the pages at, without a slash at its end."""
    host = f"[{chosen.host}]" if ":" in chosen.host else chosen.host
    return (chosen.public_url or f"http://{host}:{chosen.port}").rstrip("/")


def hosts(chosen: DashboardSettings) -> list[str]:
    """The names that a browser may call the server by, or none to take any: a name of somebody else's that leads to this machine is no way in."""
    named = urlsplit(public_url(chosen)).hostname or chosen.host
    if chosen.public_url or is_loopback(chosen.host):
        return list(dict.fromkeys(["localhost", "127.0.0.1", "::1", named]))
    return []


def credentials(chosen: DashboardSettings) -> dict[str, Any] | None:
    """Streamlit's section `auth`; none where login is off.

    Raises:
        OSError: the cookies' secret can neither be read nor be kept.
    """
    if not chosen.oidc_issuer:
        return None
    issuer = chosen.oidc_issuer.rstrip("/")
    return {
        "redirect_uri": public_url(chosen) + CALLBACK,
        "cookie_secret": chosen.oidc_cookie_secret or kept_secret(chosen.data_path),
        "client_id": chosen.oidc_client_id,
        "client_secret": chosen.oidc_client_secret,
        "server_metadata_url": issuer if issuer.endswith(DISCOVERY) else issuer + DISCOVERY,
    }


def kept_secret(folder: Path) -> str:
    """The secret that signs cookies, made at the first start, so that a restart logs nobody out. Only its owner can read it."""
    path = folder / _SECRET_FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = folder / f".{_SECRET_FILE}.{os.getpid()}"
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(48))
        made.replace(path)
    return path.read_text(encoding="ascii").strip()


def entry(user: Mapping[str, Any], chosen: DashboardSettings, now: datetime) -> Entry:
    """Whether an identity may enter, from the claims that its provider signed.

    A login without a time, an e-mail address without a word that it is verified: both count against the visitor.
    """
    if not chosen.oidc_issuer:
        return Entry.ADMITTED
    if not user.get("is_logged_in"):
        return Entry.UNKNOWN
    issued = user.get("iat")
    if not isinstance(issued, int | float) or now.timestamp() - issued > chosen.oidc_session_h * 3600:
        return Entry.EXPIRED
    allowed = {part.strip().lower() for part in chosen.oidc_allowed.split(",") if part.strip()}
    if EVERYBODY in allowed:
        return Entry.ADMITTED
    address = str(user.get("email") or "").strip().lower()
    if address.count("@") != 1 or not {address, address[address.index("@") :]} & allowed:
        return Entry.NOT_LISTED
    if chosen.oidc_verified_email and user.get("email_verified") not in {True, "true"}:
        return Entry.UNVERIFIED
    return Entry.ADMITTED
