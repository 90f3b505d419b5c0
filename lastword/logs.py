"""Logging of a program: one line format, and no secret in it.

What is secret is taken out of the finished line, tracebacks and all, because an exception's text is written by others. Known are the forms of keys, whatever
follows `Bearer` or stands as a password in a URL, and the values that the environment gives to variables which hold secrets.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Mapping

FORMAT = "%(levelname)s %(name)s: %(message)s"
REDACTED = "[redacted]"
_MIN_SECRET = 6
"""Shorter values are words by chance: taking them out would make lines unreadable."""
_SECRET_NAME = re.compile(r"(API_KEYS?|_TOKENS?|_SECRETS?|_PASSWORD)$")
_FORMS = re.compile(
    r"""(?P<before>\bBearer\s+|x-api-key['":=\s]+|://[^\s:/@'"]*:)(?P<secret>[^\s'",@]+)"""  # what follows is secret whatever it looks like
    r"""|(?P<key>\bsk-[A-Za-z0-9_-]{6,}|\blwk_[0-9a-f]{12}_[0-9a-f]+)""",
    re.IGNORECASE,
)


def secrets_of(environ: Mapping[str, str]) -> list[str]:
    """The values that must not be logged: of `*_API_KEY`, `*_API_KEYS` (each of the list), `*_TOKEN`, `*_SECRET` and `*_PASSWORD`."""
    found = set()
    for name, value in environ.items():
        if _SECRET_NAME.search(name):
            found |= {part.partition(";")[0].strip() for part in value.split(",")} | {value}
    return sorted((secret for secret in found if len(secret) >= _MIN_SECRET), key=len, reverse=True)


class Redactor(logging.Formatter):
    """Formats a record and takes out what is secret."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__(FORMAT)
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback below it."""
        return self.redact(super().format(record))

    def redact(self, text: str) -> str:
        """The text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return _FORMS.sub(_hide, text)


def _hide(match: re.Match[str]) -> str:
    before: str = match["before"] or ""
    # A URL keeps its user: only what stands between the colon and the @ is a password, and a port is none.
    if before.startswith("://") and match.string[match.end() : match.end() + 1] != "@":
        return match[0]
    return before + REDACTED


def configure(level: str, environ: Mapping[str, str] = os.environ) -> None:
    """Sets the root logger up: to stderr, at this level, redacted."""
    handler = logging.StreamHandler()
    handler.setFormatter(Redactor(secrets_of(environ)))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it names every address that is called, and some are secrets
