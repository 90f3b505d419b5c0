"""What can be wrong with silence, slow readers and load."""

import asyncio
import time

from tests.conformance.broken.registry import breaks
from tests.conformance.reference import Reference
from tests.conformance.reference.http import Reject


@breaks("F60", "of silence with heartbeats promised")
class Silent(Reference):
    """Promises heartbeats and sends none."""

    async def heartbeat(self, turn, writer):
        pass


@breaks("F61", "a heartbeat carries a field")
class HeartbeatMoves(Reference):
    """Gives its heartbeats an id."""

    async def heartbeat(self, turn, writer):
        await self.send(writer, f": hb\nid: {turn.id}.{turn.seq + 1}\n\n".encode())


@breaks("F61b", "seq runs")
class HeartbeatCounts(Reference):
    """Writes its heartbeats into the log."""

    async def heartbeat(self, turn, writer):
        await super().heartbeat(turn, writer)
        seq = turn.seq
        super().append(turn, "chunk", {"text": " "}) if turn.texts else None
        turn.frames[seq:] = [frame.replace(b'"seq":', b'"seq":1') for frame in turn.frames[seq:]]


@breaks("F62", "bytes of memory")
class NeverDrops(Reference):
    """Waits for a reader as long as it takes, and keeps what it has not taken."""

    async def send(self, writer, data):
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await asyncio.sleep(0)

    async def end_stream(self, turn, writer):
        writer.write(b"0\r\n\r\n")
        await writer.drain()


@breaks("F63", "health took")
class BlocksTheLoop(Reference):
    """Does its work in the event loop."""

    async def send(self, writer, data):
        time.sleep(0.02)  # noqa: ASYNC251 - that is the fault
        await super().send(writer, data)


@breaks("F64", "answered 200, expected 503")
class TakesEverything(Reference):
    """Takes every turn."""

    def check_capacity(self):
        pass


@breaks("F64b", "without Retry-After")
class NoRetryAfter(Reference):
    """Refuses without saying when to come back."""

    def check_capacity(self):
        try:
            super().check_capacity()
        except Reject as reject:
            raise Reject(503, reject.detail) from None


@breaks("F65", "the turn took")
class NoDeadline(Reference):
    """Says yes to a deadline, and forgets it."""

    def arm_deadline(self, turn):
        pass

    def affordable(self, turn, pause):
        return True


@breaks("F60b", "no heartbeat is a comment")
class HeartbeatEvents(Reference):
    """Sends its heartbeats as events."""

    async def heartbeat(self, turn, writer):
        await self.send(writer, b"event: heartbeat\ndata: {}\n\n")


@breaks("F62b", "was not dropped")
class WaitsForEver(Reference):
    """Keeps little for a reader that has stopped, and waits for it as long as it takes."""

    async def send(self, writer, data):
        writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await writer.drain()

    async def end_stream(self, turn, writer):
        writer.write(b"0\r\n\r\n")
        await writer.drain()


@breaks("F65b", "ended as success")
class LateIsWhole(Reference):
    """Takes what there is at the deadline for the answer."""

    def stopped(self, turn):
        if turn.stopped == "deadline" and turn.texts:
            self.finish(turn, "success", "end_turn", None)
        else:
            super().stopped(turn)
