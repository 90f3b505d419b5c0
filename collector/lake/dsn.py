"""How the lake's PostgreSQL is named: a connection string that is checked and completed, and the one way to speak of it without its password."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, quote_plus

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

_DEFAULTS = {
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    # What the server ends by itself: a lock that is waited for too long, and whatever a process that is gone has left open.
    "options": "-c lock_timeout=30s -c statement_timeout=60s -c idle_in_transaction_session_timeout=120s -c tcp_keepalives_idle=30",
}
_HIDDEN = "***"


class LakeUnusable(Exception):
    """The lake's settings cannot be used. The message says why, and has no password in it."""


class Dsn:
    """A connection string in libpq's form, `postgresql://…` or `host=… dbname=…`."""

    def __init__(self, text: str) -> None:
        try:
            self._parts: dict[str, Any] = dict(conninfo_to_dict(text.replace("postgresql+psycopg://", "postgresql://", 1)))
        except psycopg.Error:
            # libpq's own message quotes the string.
            raise LakeUnusable(
                "LASTWORD_COLLECTOR_LAKE_DSN is no connection string of PostgreSQL: postgresql://user@host/database is expected"
            ) from None
        self._password = str(self._parts.get("password") or "")

    def __repr__(self) -> str:
        return f"Dsn({self.shown()!r})"

    def text(self, application: str) -> str:
        """The whole string, for a driver alone; connections bear the name of the application."""
        return make_conninfo("", **{**_DEFAULTS, **self._parts, "application_name": application})

    def shown(self) -> str:
        """Where the database is, for people."""
        known = {name: self._parts[name] for name in ("host", "hostaddr", "port", "dbname", "user") if self._parts.get(name)}
        return " ".join(f"{name}={value}" for name, value in known.items()) or "PostgreSQL's defaults"

    def hide(self, text: object) -> str:
        """A message of a driver without the password, in whatever spelling."""
        message = str(text)
        if self._password:
            escaped = self._password.replace("\\", "\\\\").replace("'", "\\'")
            for spelling in sorted(
                {
                    self._password,
                    quote(self._password),
                    quote(self._password, safe=""),
                    quote_plus(self._password),
                    escaped,
                    escaped.replace("'", "''"),
                },
                key=len,
                reverse=True,
            ):
                message = message.replace(spelling, _HIDDEN)
        return message
