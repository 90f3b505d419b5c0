"""The registry of tools: what the model is told of each, and how each is run within its limits.

Owns the time limit, the check of the input, and the verdict on the result: one function per tool says whether a result is usable evidence. Must not know
turns, providers or telemetry. Invariants: `run` returns within the tool's limit, the turn's deadline and the turn's end, whatever the tool does; the number of
tool threads is bounded and visible.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from msgspec import Struct, field, structs

from lastword.events import ToolOutcome
from service.providers.port import Passage, ToolSpec
from service.tools.schema import check_input, check_schema

logger = logging.getLogger(__name__)

MAX_THREADS = 256
"""Tool threads at a time, over all turns, those left behind included."""
MAX_TEXT_CHARS = 32_000
"""The longest text that a tool may tell the model; what is beyond it is cut."""
MAX_PASSAGES = 20
_POLL_S = 0.05
_JOIN_S = 1.0
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")  # what the Messages API takes for a tool's name


class Search(Protocol):
    """Finds passages."""

    def __call__(self, query: str, limit: int) -> tuple[Passage, ...]:
        """At most `limit` passages of distinct URLs, the best first."""
        ...


class ToolContext(Struct, frozen=True, kw_only=True):
    """What a tool may use.

    To the caller of `run`, `cancelled` is the turn's own event. The tool sees one of its own, set as soon as nobody waits for it any more: at its time limit,
    at the deadline, at the turn's end. A tool that may take long looks at it, and gives up.
    """

    cancelled: threading.Event
    deadline_ns: int  # monotonic; of the turn to the caller, of this call to the tool
    search: Search
    turn_id: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


class Output(Struct, frozen=True, kw_only=True):
    """What a tool returns: text for the model, and the passages that are its evidence."""

    text: str
    passages: tuple[Passage, ...] = ()


class ToolError(Exception):
    """The tool cannot do what was asked. The message is read by the model."""


class ToolRun(Struct, frozen=True, kw_only=True):
    """How one call of a tool went. `error_type` is set for error and timeout."""

    outcome: ToolOutcome
    text: str
    passages: tuple[Passage, ...] = ()
    error_type: str | None = None
    duration_ns: int = 0


Run = Callable[[dict[str, Any], ToolContext], Output]
Before = Callable[[str, ToolContext], ToolOutcome | None]


class Tool(Struct, frozen=True, kw_only=True):
    """One registered tool. `usable` says whether its output is evidence."""

    spec: ToolSpec
    run: Run
    usable: Callable[[Output], bool]
    time_limit_s: float
    side_effects: bool


def tool(
    *,
    name: str,
    description: str,
    input_schema: dict[str, Any],
    time_limit_s: float = 5.0,
    side_effects: bool = False,
    usable: Callable[[Output], bool] = lambda output: bool(output.text.strip()),
) -> Callable[[Run], Tool]:
    """Makes a tool of a function. `input_schema` is a JSON schema of an object, of the subset that `schema` checks.

    Raises:
        ValueError: the name, the schema or the limit cannot be.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a tool: letters, digits, _ and -, at most 64")
    if time_limit_s <= 0:
        raise ValueError(f"the tool {name} must have some time: time_limit_s={time_limit_s}")
    check_schema(input_schema)

    def register(run: Run) -> Tool:
        spec = ToolSpec(name=name, description=description, input_schema=input_schema)
        return Tool(spec=spec, run=run, usable=usable, time_limit_s=time_limit_s, side_effects=side_effects)

    return register


class ToolRegistry:
    """All tools of the process. Thread-safe.

    `before` is asked first; where it names an outcome, the tool is not run and that is what came of it. It is there for faults on purpose.

    Raises:
        ValueError: two tools have the same name.
    """

    def __init__(
        self, tools: Iterable[Tool], mono_ns: Callable[[], int], *, before: Before | None = None, max_threads: int = MAX_THREADS
    ) -> None:
        self._tools: dict[str, Tool] = {}
        for one in tools:
            if self._tools.setdefault(one.spec.name, one) is not one:
                raise ValueError(f"two tools have the name {one.spec.name}")
        self._mono_ns = mono_ns
        self._before = before
        self._max_threads = max_threads
        self._lock = threading.Lock()
        self._running: dict[threading.Thread, threading.Event] = {}
        self._closed = False

    @property
    def names(self) -> list[str]:
        """The names of all tools."""
        return list(self._tools)

    @property
    def threads(self) -> int:
        """Tool threads that run, those left behind included."""
        return len(self._running)

    def specs(self, names: Iterable[str]) -> tuple[ToolSpec, ...]:
        """What the model is told of these tools.

        Raises:
            KeyError: there is no tool of that name.
        """
        return tuple(self._tools[name].spec for name in names)

    def time_limit_s(self, name: str) -> float:
        """The tool's time limit in seconds; 0 for a tool that does not exist."""
        found = self._tools.get(name)
        return found.time_limit_s if found else 0.0

    def has_side_effects(self, name: str) -> bool:
        """Whether the tool changes something in the world."""
        found = self._tools.get(name)
        return found is not None and found.side_effects

    def run(self, name: str, arguments: dict[str, Any], context: ToolContext) -> ToolRun:
        """Runs one tool within its limit and the turn's deadline. Never raises for what the tool or the model did.

        `context.cancelled` is the turn's own event: once it is set, the call returns.
        """
        start_ns = self._mono_ns()
        run = self._run(name, arguments, context, start_ns)
        return structs.replace(run, duration_ns=max(0, self._mono_ns() - start_ns))

    def _run(self, name: str, arguments: dict[str, Any], context: ToolContext, start_ns: int) -> ToolRun:
        found = self._tools.get(name)
        if found is None:
            return _error(f"There is no tool {name!r}.", "unknown_tool")
        if problem := check_input(found.spec.input_schema, arguments):
            return _error(f"The input is not valid: {problem}.", "invalid_input")
        end_ns = min(start_ns + round(found.time_limit_s * 1e9), context.deadline_ns)
        if context.cancelled.is_set():
            return _cancelled()
        if end_ns <= start_ns:
            return _timed_out(0.0)  # a tool with side effects, too, is better not begun
        limit_s = (end_ns - start_ns) / 1e9
        forced = self._before(name, context) if self._before else None
        if forced is not None:
            return _forced(forced, context.cancelled, limit_s)
        known = found.spec.input_schema.get("properties", {})
        checked = {key: value for key, value in arguments.items() if key in known}
        abandoned = threading.Event()
        own = structs.replace(context, cancelled=abandoned, deadline_ns=end_ns)
        return self._run_in_thread(lambda: _judge(found, checked, own), f"tool-{name}", abandoned, context.cancelled, limit_s)

    def _run_in_thread(
        self, call: Callable[[], ToolRun], name: str, abandoned: threading.Event, cancelled: threading.Event, limit_s: float
    ) -> ToolRun:
        done = threading.Event()
        results: list[ToolRun] = []

        def work() -> None:
            try:
                results.append(call())
            finally:
                with self._lock:
                    self._running.pop(threading.current_thread(), None)
                done.set()

        # A daemon, as a tool that never returns must not keep the process from ending; `close` waits for all others.
        thread = threading.Thread(target=work, name=name, daemon=True)
        with self._lock:
            if self._closed or len(self._running) >= self._max_threads:
                return _error("Too many tools are running.", "too_many_tools")
            self._running[thread] = abandoned
            try:
                thread.start()
            except RuntimeError:  # the system gives no more threads
                del self._running[thread]
                return _error("Too many tools are running.", "too_many_tools")
        _wait(done, cancelled, limit_s)
        if done.is_set():
            thread.join(_JOIN_S)
            return results[0] if results else _error("The tool failed.", "no_result")
        abandoned.set()
        return _cancelled() if cancelled.is_set() else _timed_out(limit_s)

    def close(self, timeout_s: float = _JOIN_S) -> int:
        """Runs no tool any more, tells those that run to give up and waits for them; the number that still run after `timeout_s`."""
        with self._lock:
            self._closed = True
            running = dict(self._running)
        for abandoned in running.values():
            abandoned.set()
        end = time.monotonic() + timeout_s
        for thread in running:
            thread.join(max(0.0, end - time.monotonic()))
        left = [thread.name for thread in running if thread.is_alive()]
        if left:
            logger.warning("%d tools did not give up: %s", len(left), ", ".join(sorted(set(left))))
        return len(left)


def _wait(done: threading.Event, cancelled: threading.Event, limit_s: float) -> None:
    """Waits for the tool, the limit, or the end of the turn, whichever comes first.

    A thread takes real time, whatever the injected clock says: that one is read a fixed number of times a call.
    """
    end_s = time.monotonic() + limit_s
    while not done.is_set() and not cancelled.is_set() and (left_s := end_s - time.monotonic()) > 0:
        done.wait(min(left_s, _POLL_S))


def _judge(found: Tool, arguments: dict[str, Any], context: ToolContext) -> ToolRun:
    """Runs the tool and says what came of it."""
    try:
        output = found.run(arguments, context)
        usable = found.usable(output)
    except ToolError as error:
        return _error(str(error), "tool_error")
    except Exception as error:  # the boundary to code of others: the model is told that it failed, the operator why
        logger.exception("tool %s failed", found.spec.name)
        return _error("The tool failed.", type(error).__name__)
    text = output.text if len(output.text) <= MAX_TEXT_CHARS else output.text[:MAX_TEXT_CHARS] + "\n(The rest was cut.)"
    return ToolRun(
        outcome=ToolOutcome.RESULTS if usable else ToolOutcome.EMPTY,
        text=text if text.strip() else "Nothing was found.",
        passages=output.passages[:MAX_PASSAGES],
    )


def _forced(outcome: ToolOutcome, cancelled: threading.Event, limit_s: float) -> ToolRun:
    match outcome:
        case ToolOutcome.TIMEOUT:
            return _cancelled() if cancelled.wait(limit_s) else _timed_out(limit_s)
        case ToolOutcome.EMPTY:
            return ToolRun(outcome=outcome, text="Nothing was found.")
        case _:
            return _error("The tool failed.", "forced")


def _error(text: str, error_type: str) -> ToolRun:
    return ToolRun(outcome=ToolOutcome.ERROR, text=text, error_type=error_type)


def _timed_out(limit_s: float) -> ToolRun:
    return ToolRun(outcome=ToolOutcome.TIMEOUT, text=f"The tool did not answer within {limit_s:.1f} s.", error_type="timeout")


def _cancelled() -> ToolRun:
    """The turn ended first: that is no time-out of the tool's, and must not count as one."""
    return _error("The tool was cancelled, for the turn has ended.", "cancelled")
