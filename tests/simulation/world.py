"""Virtual time: one heap of events, workers that take turns, and an event loop. The same seed gives the same run, step by step.

Workers are greenlets, so that the synchronous code of a turn runs unchanged and can be set aside wherever it reads the clock or waits. Nothing here sleeps:
time goes on when everybody waits. Owns order and time; knows no turn.
"""

import asyncio
import heapq
import itertools
import math
import random

import greenlet

from service.watchdog import Watch

MS = 1_000_000
S = 1_000_000_000
EPOCH_NS = 1_800_000_000 * S


class Stuck(Exception):
    """The run does not come to its end within its bound of steps."""


class World:
    """Time, and who acts when."""

    def __init__(self, seed, *, max_steps=200_000, tell=None):
        self.rng = random.Random(seed)
        self.now_ns = 0
        self.trace = []
        self._tell = tell
        self._heap = []
        self._order = itertools.count()
        self._hub = greenlet.getcurrent()
        self._workers = {}
        self._held = 0
        self._max_steps = max_steps
        self._failed = None
        self.loop = Loop(self)

    def say(self, text):
        """Writes a line of the run's log."""
        line = f"{self.now_ns / S:9.4f} s  {text}"
        self.trace.append(line)
        if self._tell is not None:
            self._tell(line)

    # --- events

    def at(self, when_ns, act):
        """Does something at a time, or at once where that has passed."""
        heapq.heappush(self._heap, (max(when_ns, self.now_ns), next(self._order), act))

    def after(self, ms, act):
        """Does something in so many milliseconds."""
        self.at(self.now_ns + round(ms * MS), act)

    def run(self, until_ns=None):
        """Goes on until nothing is left to do, or to a time."""
        asyncio._set_running_loop(self.loop)
        try:
            for _ in range(self._max_steps):
                if not self._heap or (until_ns is not None and self._heap[0][0] > until_ns):
                    return
                when_ns, _, act = heapq.heappop(self._heap)
                self.now_ns = max(self.now_ns, when_ns)  # a worker that breathes may have taken it further
                act()
                if self._failed is not None:
                    raise self._failed
            raise Stuck(f"{self._max_steps} steps, {self.now_ns / S:.3f} s, and no end; next: {self._heap[:3]}")
        finally:
            asyncio._set_running_loop(None)

    def fail(self, error):
        """Ends the run with this error."""
        self._failed = self._failed or error

    # --- workers

    def spawn(self, work, name):
        """Starts a worker, which runs whenever it does not wait."""
        worker = greenlet.greenlet(work, parent=self._hub)
        self._workers[worker] = name
        self.at(self.now_ns, lambda: self._resume(worker))

    def _resume(self, worker):
        if worker in self._workers:
            worker.switch()
            if worker.dead:
                self._workers.pop(worker, None)

    def kill_workers(self):
        """No worker ever goes on: the process is gone."""
        workers, self._workers = list(self._workers), {}
        for worker in workers:
            worker.throw(Gone)

    @property
    def workers(self):
        """How many workers have not ended."""
        return len(self._workers)

    def wait(self, seconds=None, until=lambda: False):
        """The present worker waits: for a time, or for something that `poke` makes it look at; whether that has come."""
        worker = greenlet.getcurrent()
        if worker is self._hub:
            raise AssertionError("only a worker can wait")
        end_ns = None if seconds is None else self.now_ns + round(seconds * S)
        if end_ns is not None:
            self.at(end_ns, lambda: self._resume(worker))
        while not until():
            if end_ns is not None and self.now_ns >= end_ns:
                return until()
            self._hub.switch()
        return True

    def poke(self):
        """Something has changed that workers may wait for."""
        for worker in list(self._workers):
            self.at(self.now_ns, lambda worker=worker: self._resume(worker))

    def breathe(self):
        """Time goes on a little, and others may act: a worker can be set aside wherever it looks at the clock."""
        if greenlet.getcurrent() is self._hub or self._held:
            return
        self.now_ns += self.rng.randrange(1, 40_000)
        if self.rng.random() < 0.08:
            worker = greenlet.getcurrent()
            self.after(self.rng.expovariate(1) * 2, lambda: self._resume(worker))
            self._hub.switch()

    def hold(self):
        """Nobody is set aside in here."""
        return _Held(self)


class Gone(BaseException):
    """The process of a worker is gone."""


class _Held:
    def __init__(self, world):
        self._world = world

    def __enter__(self):
        self._world._held += 1

    def __exit__(self, *_):
        self._world._held -= 1


class Loop(asyncio.AbstractEventLoop):
    """As much of an event loop as futures, tasks and timers need."""

    def __init__(self, world):
        self._world = world

    def get_debug(self):
        return False

    def time(self):
        return self._world.now_ns / S

    def call_soon(self, callback, *args, context=None):
        return self.call_at(self.time(), callback, *args, context=context)

    call_soon_threadsafe = call_soon

    def call_later(self, delay, callback, *args, context=None):
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(self, when, callback, *args, context=None):
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._world.at(math.ceil(when * S) + 1, lambda: None if timer.cancelled() else timer._run())
        return timer

    def _timer_handle_cancelled(self, handle):
        pass

    def create_future(self):
        return asyncio.Future(loop=self)

    def create_task(self, coro, *, name=None, context=None):
        return asyncio.Task(coro, loop=self, name=name)

    def run_in_executor(self, executor, func, *args):
        """Short reads of the database: they take no time here."""
        future = self.create_future()
        with self._world.hold():
            try:
                future.set_result(func(*args))
            except Exception as error:  # noqa: BLE001 - it is the caller's
                future.set_exception(error)
        return future

    def call_exception_handler(self, context):
        if "exception" in context:  # else it is a task of a run that failed, and that nobody waits for
            self._world.fail(context["exception"])


class Clock:
    """The world's time. With `breathing`, whoever reads it may be set aside."""

    def __init__(self, world, *, breathing=True):
        self._world = world
        self._breathing = breathing

    def wall_ns(self):
        return EPOCH_NS + self._world.now_ns

    def mono_ns(self):
        if self._breathing:
            self._world.breathe()
        return self._world.now_ns


class Event:
    """What `threading.Event` is to a worker."""

    def __init__(self, world):
        self._world = world
        self._set = False

    def is_set(self):
        return self._set

    def set(self):
        self._set = True
        self._world.poke()

    def wait(self, timeout=None):
        return self._world.wait(timeout, lambda: self._set)


class Watchdog:
    """Calls back when a deadline passes; a watch that was moved is looked at again when its new time comes."""

    def __init__(self, world):
        self._world = world

    def watch(self, due_ns, callback):
        watch = Watch(due_ns, callback)
        self._world.at(due_ns, lambda: self._look(watch))
        return watch

    def _look(self, watch):
        if watch.cancelled:
            return
        if watch.due_ns > self._world.now_ns:
            self._world.at(watch.due_ns, lambda: self._look(watch))
        else:
            watch.callback()

    def close(self):
        pass
