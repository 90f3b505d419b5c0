"""Failures before `ack`: HTTP problems, as data. Safe to show: no secret, no other caller's data, no stack."""

from __future__ import annotations

from typing import Any

from lastword import CONTRACT


class Rejected(Exception):
    """The request is answered with an HTTP status. `more` are further members of its problem document."""

    def __init__(
        self, status: int, title: str, detail: str = "", *, retry_after_s: int | None = None, more: dict[str, Any] | None = None
    ) -> None:
        super().__init__(f"{status} {title}")
        self.status = status
        self.title = title
        self.detail = detail
        self.retry_after_s = retry_after_s
        self.more = more or {}


class Attached(Exception):
    """The idempotency key names a turn that exists: its log is the answer."""

    def __init__(self, turn_id: str) -> None:
        super().__init__(turn_id)
        self.turn_id = turn_id


def unauthorized() -> Rejected:
    """No key, or one that is not known."""
    return Rejected(401, "Unauthorized", "Present an API key as `Authorization: Bearer KEY`.")


def forbidden(scope: str) -> Rejected:
    """The key is good, and not for this."""
    return Rejected(403, "Forbidden", f"This key lacks the scope `{scope}`.")


def over_limit(detail: str, retry_after_s: int) -> Rejected:
    """The caller has used up what it may use for now."""
    return Rejected(429, "Too Many Requests", detail, retry_after_s=retry_after_s)


def unavailable() -> Rejected:
    """The database cannot be reached."""
    return Rejected(
        503, "Service Unavailable", "The service cannot reach its database. Please try again shortly.", retry_after_s=2
    )


def not_found(what: str) -> Rejected:
    """Nothing there, or nothing that this caller may see."""
    return Rejected(404, "Not Found", f"There is no such {what}.")


def invalid(detail: str) -> Rejected:
    """The body says something that cannot be used."""
    return Rejected(400, "Bad Request", detail)


def not_spoken() -> Rejected:
    """The client understands no version of the contract that is spoken here."""
    return Rejected(406, "Not Acceptable", f"This service speaks {CONTRACT}.", more={"versions": [CONTRACT]})


def too_large(detail: str) -> Rejected:
    """The body or the message is over a limit."""
    return Rejected(413, "Content Too Large", detail)


def overloaded() -> Rejected:
    """No worker is free."""
    return Rejected(503, "Service Unavailable", "All workers are busy. Please try again shortly.", retry_after_s=1)


def ended_before_ack() -> Rejected:
    """The turn that the key names is over and was never acknowledged; the key is free again."""
    return Rejected(503, "Service Unavailable", "The turn ended before it was acknowledged. Please ask again.", retry_after_s=1)


def draining() -> Rejected:
    """The process is about to end."""
    return Rejected(503, "Service Unavailable", "The service is shutting down. Please try again shortly.", retry_after_s=2)


def internal() -> Rejected:
    """Something of ours broke; the log says what."""
    return Rejected(500, "Internal Server Error", "The turn could not be started.")
