"""The registry of tools: what the model is told of each, and how each is run within its limits.

Owns the time limit, the check of the input, and the verdict on the result: one function per tool says whether a result is usable evidence. A tool that
hangs is left behind in its thread with its `cancelled` event set; the number of such threads is bounded and visible.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from msgspec import Struct, field, structs

from lastword.events import ToolOutcome
from service.providers.port import Passage, ToolSpec
from service.tools.schema import check_input

logger = logging.getLogger(__name__)

MAX_THREADS = 256
"""Tool threads at a time, over all turns, those left behind included."""
_JOIN_POLL_S = 0.05


class Search(Protocol):
    """Finds passages."""

    def __call__(self, query: str, limit: int) -> tuple[Passage, ...]:
        """At most `limit` passages of distinct URLs, the best first."""
        ...


class ToolContext(Struct, frozen=True, kw_only=True):
    """What a tool may use. `cancelled` is the tool's own event, set when nobody waits for it any more."""

    cancelled: threading.Event
    deadline_ns: int  # of the turn, monotonic
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
    """How one call of a tool went."""

    outcome: ToolOutcome
    text: str
    passages: tuple[Passage, ...] = ()
    error_type: str | None = None


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
    """Makes a tool of a function. `input_schema` is a JSON schema of an object, of the subset that `schema` checks."""

    def register(run: Run) -> Tool:
        spec = ToolSpec(name=name, description=description, input_schema=input_schema)
        return Tool(spec=spec, run=run, usable=usable, time_limit_s=time_limit_s, side_effects=side_effects)

    return register


class ToolRegistry:
    """All tools of the process. Thread-safe once built.

    `before` is asked first; where it names an outcome, the tool is not run and that is what came of it. It is there for faults on purpose.
    """

    def __init__(
        self, tools: Iterable[Tool], mono_ns: Callable[[], int], *, before: Before | None = None, max_threads: int = MAX_THREADS
    ) -> None:
        self._tools = {one.spec.name: one for one in tools}
        self._mono_ns = mono_ns
        self._before = before
        self._max_threads = max_threads
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()

    @property
    def names(self) -> list[str]:
        """The names of all tools."""
        return list(self._tools)

    @property
    def threads(self) -> int:
        """Tool threads that run, those left behind included."""
        return len(self._threads)

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

        `context.cancelled` is the turn's own event: where it is set, the call returns at once.
        """
        found = self._tools.get(name)
        if found is None:
            return _error(f"There is no tool {name!r}.", "unknown_tool")
        if problem := check_input(found.spec.input_schema, arguments):
            return _error(f"The input is not valid: {problem}", "invalid_input")
        limit_s = max(0.0, min(found.time_limit_s, (context.deadline_ns - self._mono_ns()) / 1e9))
        forced = self._before(name, context) if self._before else None
        if forced is not None:
            return self._forced(forced, context.cancelled, limit_s)
        return self._run_in_thread(found, arguments, context, limit_s)

    def _run_in_thread(self, found: Tool, arguments: dict[str, Any], context: ToolContext, limit_s: float) -> ToolRun:
        abandoned = threading.Event()
        own = structs.replace(context, cancelled=abandoned)
        results: list[ToolRun] = []
        done = threading.Event()

        def work() -> None:
            try:
                results.append(_judge(found, arguments, own))
            finally:
                with self._lock:
                    self._threads.discard(threading.current_thread())
                done.set()

        thread = threading.Thread(target=work, name=f"tool-{found.spec.name}", daemon=True)
        with self._lock:
            if len(self._threads) >= self._max_threads:
                return _error("Too many tools are running.", "too_many_tools")
            self._threads.add(thread)
        thread.start()
        self._wait(done, context.cancelled, limit_s)
        if done.is_set() and results:
            return results[0]
        abandoned.set()
        return _timed_out(limit_s)

    def _forced(self, outcome: ToolOutcome, cancelled: threading.Event, limit_s: float) -> ToolRun:
        match outcome:
            case ToolOutcome.TIMEOUT:
                cancelled.wait(limit_s)
                return _timed_out(limit_s)
            case ToolOutcome.EMPTY:
                return ToolRun(outcome=outcome, text="Nothing was found.")
            case _:
                return _error("The tool failed.", "forced")

    def _wait(self, done: threading.Event, cancelled: threading.Event, limit_s: float) -> None:
        """Waits for the tool, the limit, or the end of the turn, whichever comes first."""
        end_ns = self._mono_ns() + round(limit_s * 1e9)
        while not done.is_set() and not cancelled.is_set() and (left_ns := end_ns - self._mono_ns()) > 0:
            done.wait(min(left_ns / 1e9, _JOIN_POLL_S))

    def close(self) -> None:
        """Forgets threads that were left behind: they are daemons, and end with the process."""
        if left := self.threads:
            logger.warning("%d tool threads were left behind", left)


def _judge(found: Tool, arguments: dict[str, Any], context: ToolContext) -> ToolRun:
    """Runs the tool and says what came of it."""
    try:
        output = found.run(arguments, context)
    except ToolError as error:
        return _error(str(error), "tool_error")
    except Exception as error:  # the boundary to code of others: the model is told that it failed, the operator why
        logger.exception("tool %s failed", found.spec.name)
        return _error("The tool failed.", type(error).__name__)
    outcome = ToolOutcome.RESULTS if found.usable(output) else ToolOutcome.EMPTY
    return ToolRun(outcome=outcome, text=output.text or "Nothing was found.", passages=output.passages)


def _error(text: str, error_type: str) -> ToolRun:
    return ToolRun(outcome=ToolOutcome.ERROR, text=text, error_type=error_type)


def _timed_out(limit_s: float) -> ToolRun:
    return ToolRun(outcome=ToolOutcome.TIMEOUT, text=f"The tool did not answer within {limit_s:.1f} s.", error_type="timeout")
