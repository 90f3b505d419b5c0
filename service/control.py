"""How other threads reach a running turn: to stop it for good, or to interrupt its present try.

Owned by the turn; the watchdog, the HTTP side and the shutdown call in. The first stop wins. Whoever calls wakes a worker that is blocked in
a provider's read, by aborting the call.
"""

from __future__ import annotations

import threading
from typing import Protocol

from service.turn.failures import AttemptFailed, FailureKind


class Abortable(Protocol):
    """A provider call, as far as this module needs it."""

    def abort(self) -> None:
        """Wakes the blocked reader."""
        ...


class TurnControl:
    """The switch of one turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._call: Abortable | None = None
        self._attempt = 0
        self._interrupted: FailureKind | None = None
        self._stopped: FailureKind | None = None
        self.stop_event = threading.Event()
        # Set whenever the process is about to end, whatever has stopped the turn before.
        self.shutdown_event = threading.Event()

    @property
    def stopped(self) -> FailureKind | None:
        """Why the whole turn is to end, if it is."""
        return self._stopped

    def stop(self, kind: FailureKind) -> bool:
        """Ends the turn; false where it was being ended already."""
        if kind is FailureKind.SHUTDOWN:
            self.shutdown_event.set()
        with self._lock:
            if self._stopped is not None:
                return False
            self._stopped = kind
            call = self._call
        self.stop_event.set()
        if call is not None:
            call.abort()
        return True

    def begin_attempt(self) -> int:
        """A new try begins, untouched by what ended the last one; its number, which `interrupt` has to name.

        Raises:
            AttemptFailed: the turn is stopped already.
        """
        with self._lock:
            self._attempt += 1
            self._interrupted = None
            if self._stopped is None:
                return self._attempt
        raise AttemptFailed(self._stopped)

    def interrupt(self, kind: FailureKind, attempt: int) -> None:
        """Ends this try; the policy decides what follows. Too late for a try that is over: then nothing happens."""
        with self._lock:
            if attempt != self._attempt or self._interrupted is not None:
                return
            self._interrupted = kind
            call = self._call
        if call is not None:
            call.abort()

    def enter(self, call: Abortable) -> None:
        """A provider call begins.

        Raises:
            AttemptFailed: the turn is stopped, or the try interrupted.
        """
        with self._lock:
            cause = self._stopped or self._interrupted
            if cause is None:
                self._call = call
                return
        raise AttemptFailed(cause)

    def leave(self) -> None:
        """The provider call has ended."""
        with self._lock:
            self._call = None

    def cause(self) -> FailureKind | None:
        """Why the present try was ended from outside, if it was."""
        return self._stopped or self._interrupted

    def check(self) -> None:
        """Raises `AttemptFailed` where the turn or the present try is to end. Cheap: called at every emit."""
        cause = self._stopped or self._interrupted
        if cause is not None:
            raise AttemptFailed(cause)
