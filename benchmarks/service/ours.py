"""The service as it is, with everything on, and a model that follows the script: `python -m benchmarks.service.ours`.

The environment is the service's own. The model is a plug at the same port as every other; where the settings name another provider, that one is kept.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator

from benchmarks.service.script import SILENT, piece, script_of
from lastword.events import Usage
from service.__main__ import run
from service.providers.port import Ended, ModelEvent, ModelRequest, Started, TextDelta, UserText
from service.turn.failures import AttemptFailed, FailureKind


class _Call:
    def __init__(self, question: str) -> None:
        self._question = question
        self._aborted = threading.Event()
        self.usage = Usage()

    def __iter__(self) -> Iterator[ModelEvent]:
        yield Started()
        if self._question == SILENT:
            self._aborted.wait()
        script = script_of(self._question)
        for _ in range(script.n):
            if script.pace_ms:
                time.sleep(script.pace_ms / 1000)
            if self._aborted.is_set():
                raise AttemptFailed(FailureKind.NETWORK, "aborted")
            yield TextDelta(piece())
        yield Ended(stop_reason="end_turn", usage=self.usage)

    def abort(self) -> None:
        self._aborted.set()


class ScriptedModel:
    """A model that streams what the question asks for."""

    name = "extractive"

    def start(self, request: ModelRequest) -> _Call:
        """A call that follows the newest question."""
        return _Call(next(said.text for said in reversed(request.transcript) if isinstance(said, UserText)))

    def close(self) -> None:
        """Nothing is held."""


if __name__ == "__main__":
    sys.exit(run(ScriptedModel()))
