"""What can be wrong with the end of a process, and with the next one."""

import asyncio
import os

from tests.conformance.broken.registry import breaks
from tests.conformance.reference import Reference
from tests.conformance.reference.turn import Fault


@breaks("L66", "without a terminal")
class DropsEverything(Reference):
    """Ends at once."""

    async def drain(self):
        os._exit(0)


@breaks("L67", "not retryable|ended as")
class ShutdownIsFinal(Reference):
    """Ends a turn that showed nothing as one that cannot be helped."""

    def error_fields(self, turn, fault: Fault):
        return super().error_fields(turn, fault) | {"retryable": False}


@breaks("L68", "the terminal of .* not within")
class ForgetsTheCrash(Reference):
    """Knows its turns after a restart, and leaves them open."""

    def close_recovered(self, turn):
        pass


@breaks("L68b", "recovered=true")
class HidesTheCrash(Reference):
    """Closes its turns after a restart, as if nothing had been."""

    def append(self, turn, kind, fields):
        if "metadata" in fields:
            fields["metadata"]["recovered"] = False
        super().append(turn, kind, fields)


@breaks("L69", "without a terminal")
class SecondTermKills(Reference):
    """Takes the second signal for impatience."""

    def on_term(self, stopping):
        if stopping.is_set() or getattr(self, "_asked", False):
            os._exit(1)
        self._asked = True
        asyncio.get_running_loop().call_later(0.3, stopping.set)


@breaks("L70", "no event stream|differ|join")
class ForgetsEnded(Reference):
    """Knows nothing of the turns of the process before."""

    def recover(self):
        pass


@breaks("L66b", "still runs")
class NeverEnds(Reference):
    """Ends its turns, and stays."""

    async def drain(self):
        await super().drain()
        await asyncio.sleep(60)


@breaks("L68c", "the recovered turn is another")
class RecoversAgain(Reference):
    """Closes its turns at every start, those that are closed too."""

    def recover(self):
        self.found_open = set()
        super().recover()
        for turn in self.turns.values():
            if turn.id not in self.found_open:
                super().close_recovered(turn)

    def close_recovered(self, turn):
        self.found_open.add(turn.id)
        super().close_recovered(turn)
