"""Viewers of simulated turns: they read, lag, get stuck, leave, come back and compare what they got, over the product's own stream responses."""

import asyncio

from lastword.wire import FrameParser, decode_event
from service import problems
from service.http.follow import begun, followed
from service.http.outlet import TRANSPORT
from service.http.stream import EventStream


class _Transport:
    """The server's side of the connection, as far as a response may touch it."""

    def __init__(self, cut):
        self._cut = cut

    def get_write_buffer_size(self):
        return 1

    def abort(self):
        self._cut()


class Viewer:
    """One client of one turn. `received` is every frame that it took, in order, over all of its connections."""

    def __init__(self, world, name, habits):
        self.world = world
        self.name = name
        self.habits = habits
        self.received = []
        self.turn_id = None
        self.status = None  # of the last answer that was no stream
        self.connections = 0
        self.complete = False
        self._task = None
        self._leave = None

    @property
    def seq(self):
        """The last event that it has."""
        return len(self.received)

    # --- connections

    def ask(self, process, turn):
        """Opens the stream of a turn that it has asked for."""
        self.turn_id = turn.turn_id
        self._begin(self._view(lambda: begun(process.service, turn)))

    def resume(self, process):
        """Comes back with the last event that it has."""
        if self.turn_id is not None and not self.complete and (self._task is None or self._task.done()):
            self._begin(self._view(lambda: followed(process.service, self.turn_id, after=self.seq)))

    def _begin(self, coroutine):
        self.connections += 1
        self._task = asyncio.Task(coroutine, loop=self.world.loop)
        self._task.add_done_callback(self._ended)

    def _ended(self, task):
        if not task.cancelled() and task.exception() is not None:
            self.world.fail(task.exception())

    def leave(self):
        """Closes its connection."""
        if self._leave is not None and not self._leave.done():
            self.world.say(f"{self.name} leaves at event {self.seq}")
            self._leave.set_result(None)

    def lose(self):
        """The other side is gone."""
        if self._task is not None and not self._task.done():
            self._task.cancel()

    @property
    def connected(self):
        """Whether a connection is open."""
        return self._task is not None and not self._task.done()

    async def _view(self, answer):
        self._leave = leave = self.world.loop.create_future()
        try:
            response = await answer()
        except problems.Rejected as rejected:
            self.status = rejected.status
            return
        if not isinstance(response, EventStream):
            self.status = response.status_code
            self.complete = self.complete or self.status == 204
            return
        turn_id = response.headers["Turn-Id"]
        if self.turn_id != turn_id:
            self.world.say(f"{self.name} is attached to {turn_id}")
            self.turn_id = turn_id
        scope = {"type": "http", "extensions": {TRANSPORT: _Transport(self.leave)}}
        await response.to_asgi_response(None, None)(scope, lambda: _disconnect(leave), self._taker(leave))

    def _taker(self, leave):
        """The connection's way in: takes what the service sends, in its own time."""
        parser = FrameParser()

        async def send(message):
            if message["type"] != "http.response.body" or leave.done():
                return
            await self._take_time(leave)
            for frame in [] if leave.done() else parser.feed(message.get("body", b"")):
                self.received.append((frame, decode_event(frame)))
                self.complete = frame.event in {"done", "error"}

        return send

    async def _take_time(self, leave):
        rng, habits = self.world.rng, self.habits
        if "stuck" in habits and self.connections == 1 and self.seq >= 2:
            self.world.say(f"{self.name} takes nothing any more")
            await asyncio.shield(leave)
        elif "slow" in habits:
            await asyncio.sleep(rng.random() * 1.2)


async def _disconnect(leave):
    await asyncio.shield(leave)
    return {"type": "http.disconnect"}
