"""What can be wrong with reading a turn again."""

import asyncio

from tests.conformance.broken.registry import breaks
from tests.conformance.reference import Reference
from tests.conformance.reference.http import Reject


@breaks("R42", "the joined stream differs")
class OffByOne(Reference):
    """Sends the event of the cursor once more."""

    def place(self, after):
        return max(0, after - 1)


@breaks("R43", "differ from the first delivery")
class LiveOnly(Reference):
    """Shows a late viewer what comes from now on."""

    async def events(self, turn, request, query, reader, writer):
        if turn.terminal is None:
            await self.deliver(turn, turn.seq, reader, writer, {})
        else:
            await super().events(turn, request, query, reader, writer)


@breaks("R44", "called 2 times")
class LateClaim(Reference):
    """Takes note of a key when its turn has been delivered."""

    def claim(self, caller, key, turn):
        asyncio.get_running_loop().call_later(2.0, super().claim, caller, key, turn)


@breaks("R45", "turns were made for one key")
class RacyClaim(Reference):
    """Looks, waits, and leaps."""

    async def claimed(self, caller, key, payload):
        found = await super().claimed(caller, key, payload)
        await asyncio.sleep(0.002)
        return found


@breaks("R46", "answered 200, expected 422")
class AnyPayload(Reference):
    """Hands out the first answer to whatever is asked with its key."""

    def same_payload(self, turn, payload):
        return True


@breaks("R47", "without a terminal|not within|in time")
class OnlyWhileWatched(Reference):
    """Keeps a terminal for those who are there."""

    def append(self, turn, kind, fields):
        super().append(turn, kind, fields)
        if kind == "done" and not turn.viewers:
            turn.frames.pop()


@breaks("R48", "answered 200, expected 204")
class EmptyStream(Reference):
    """Opens a stream of nothing."""

    def says_no_content(self):
        return False


@breaks("R49", "a malformed cursor: answered 200")
class AnyCursor(Reference):
    """Takes a cursor that it cannot read for none."""

    def cursor(self, turn, text):
        try:
            return super().cursor(turn, text)
        except Reject:
            return super().cursor(turn, "") if "." not in text else super().cursor(turn, text)


@breaks("R50", "410 for an expired log")
class ForgetsQuietly(Reference):
    """Has never heard of a turn whose log is gone."""

    async def events(self, turn, request, query, reader, writer):
        if self.expired(turn):
            raise Reject(404, "There is no such turn.")
        await super().events(turn, request, query, reader, writer)


@breaks("R51", "answered 200, expected 404")
class AnyCaller(Reference):
    """Takes the turn's id for a key."""

    def may_see(self, turn, caller):
        return True


@breaks("R42b", "the joined stream differs")
class IgnoresQuery(Reference):
    """Knows cursors in headers only."""

    async def events(self, turn, request, query, reader, writer):
        await super().events(turn, request, {}, reader, writer)


@breaks("R42c", "the joined stream differs")
class FromNowOn(Reference):
    """Resumes a running turn with what comes from now on."""

    async def events(self, turn, request, query, reader, writer):
        if turn.terminal is None:
            await asyncio.sleep(0.15)
            await self.deliver(turn, turn.seq, reader, writer, {})
        else:
            await super().events(turn, request, query, reader, writer)


@breaks("R51b", "leads to the first caller's turn")
class SharedKeys(Reference):
    """Keeps the idempotency keys of all callers in one drawer."""

    def claim(self, caller, key, turn):
        super().claim("", key, turn)

    async def claimed(self, caller, key, payload):
        return await super().claimed("", key, payload)
