"""What can be wrong with stopping and leaving."""

import asyncio
import socket

from tests.conformance.broken.registry import breaks
from tests.conformance.reference import Reference
from tests.conformance.reference.http import respond
from tests.conformance.reference.turn import Fault

_KEPT: list[object] = []


@breaks("C52", "ended as error")
class CancelIsError(Reference):
    """Ends a turn that was cancelled before text with an error."""

    def stopped(self, turn):
        if turn.stopped == "cancel" and not turn.texts:
            self.error(turn, Fault("client_cancelled", "cancelled"))
        else:
            super().stopped(turn)


@breaks("C53", "after the cancel")
class SlowCancel(Reference):
    """Notices a cancel at its leisure."""

    async def cancel(self, turn, writer):
        asyncio.get_running_loop().call_later(1.6, turn.stop, "cancel")
        await self.snapshot(writer, turn, 202)


@breaks("C54", "the provider's socket")
class KeepsProvider(Reference):
    """Leaves the provider's connection to itself."""

    async def hang_up(self, call, events):
        _KEPT.append(call)
        asyncio.get_running_loop().call_later(3.0, call.close)


@breaks("C55", "answered 409")
class LateCancelIsConflict(Reference):
    """Refuses to cancel what has ended."""

    async def cancel(self, turn, writer):
        if turn.terminal is not None:
            await respond(writer, 409, {}, b"")
        else:
            await super().cancel(turn, writer)


@breaks("C55b", "terminals|not the stream's|does not answer with it")
class CancelWrites(Reference):
    """Writes a terminal in the cancel handler, too."""

    async def cancel(self, turn, writer):
        if turn.terminal is None and turn.texts:
            self.append(turn, "done", {"metadata": self.metadata(turn, "cancelled", None, "client_cancelled")})
            turn.terminal = None
        await super().cancel(turn, writer)


@breaks("C56", "the turn ended as cancelled")
class LeavingCancels(Reference):
    """Takes a lost connection for a decision."""

    def viewer_left(self, turn):
        if not turn.viewers:
            turn.stop("left")


@breaks("C57", "the turn ended as interrupted|the provider's socket")
class LeavingNeverCancels(Reference):
    """Goes on for nobody."""

    def abandoned(self, turn):
        pass


@breaks("C58", "after its viewer left")
class NoGrace(Reference):
    """Honours no grace."""

    def viewer_left(self, turn):
        if not turn.viewers:
            turn.stop("left")


@breaks("C59", "descriptors")
class Leaks(Reference):
    """Loses a descriptor for every viewer that leaves early."""

    def abandoned(self, turn):
        super().abandoned(turn)
        _KEPT.append(socket.socket())
