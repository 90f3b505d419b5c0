"""The errors that this package raises, as one tree.

LastwordError
  IllegalTransition      we moved a turn's machine along an edge that does not exist
  WireError              bytes that are not a turn's event stream
  ContractViolation      well-formed events in an order, or with contents, that the contract forbids
  SettingsError          a setting that cannot be used
  TurnRejected           the server answered a request with an HTTP problem
  TurnUnreachable        the server could not be reached, or a stream could not be resumed
"""

from __future__ import annotations


class LastwordError(Exception):
    """Base of every error raised by this package."""


class IllegalTransition(LastwordError):
    """The transition table has no edge for this state and signal. Nothing was changed."""

    def __init__(self, state: str, signal: str) -> None:
        self.state = str(state)
        self.signal = str(signal)
        super().__init__(f"no transition from state {self.state!r} on signal {self.signal!r}")


class WireError(LastwordError):
    """The bytes or the JSON of a frame cannot be read as an event."""


class ContractViolation(LastwordError):
    """An event breaks the turn grammar. `rule` is a stable short name of the broken rule."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail


class SettingsError(LastwordError):
    """A setting is unknown, malformed or out of its range. The message names the variable."""


class TurnRejected(LastwordError):
    """The server refused a request before `ack`: an HTTP status with a problem document."""

    def __init__(self, status: int, title: str, detail: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{status} {title}: {detail}" if detail else f"{status} {title}")
        self.status = status
        self.title = title
        self.detail = detail
        self.retry_after_s = retry_after_s


class TurnUnreachable(LastwordError):
    """No connection, or a stream that ended without a terminal and could not be resumed."""
