"""The built-in tools: search the knowledge, tell the time, calculate.

Each is a function of its input and its context. Must not know how it is run. Invariant: none has side effects, and each ends by itself in bounded time.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from service.tools.registry import Before, Output, Tool, ToolContext, ToolError, ToolRegistry, tool

_MAX_EXPRESSION_CHARS = 200
_MAX_DEPTH = 32
_MAX_MAGNITUDE = 1e100
_MAX_EXPONENT = 256
_EXACT_BELOW = 2.0**53  # floating point holds every whole number up to here


@tool(
    name="search_knowledge",
    description="Searches the indexed documents. Returns passages with their titles and addresses.",
    input_schema={
        "type": "object",
        "properties": {
            "query": {"type": "string", "description": "What to look for, in a few words.", "maxLength": 400},
            "limit": {"type": "integer", "description": "How many passages.", "minimum": 1, "maximum": 10},
        },
        "required": ["query"],
    },
    usable=lambda output: bool(output.passages),
)
def search_knowledge(arguments: dict[str, Any], context: ToolContext) -> Output:
    """Passages for a query."""
    passages = context.search(arguments["query"], arguments.get("limit", 5))
    text = "\n\n".join(f"{passage.title} ({passage.url})\n{passage.text}" for passage in passages)
    return Output(text=text, passages=passages)


def _current_time(now: Callable[[], datetime]) -> Callable[[dict[str, Any], ToolContext], Output]:
    def current_time(arguments: dict[str, Any], _: ToolContext) -> Output:
        name = arguments.get("timezone", "UTC")
        try:
            # UTC needs no database of zones, which not every machine has.
            zone: tzinfo = UTC if name.upper() == "UTC" else ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ToolError(f"There is no time zone {name!r}; use a name such as Europe/Berlin.") from error
        return Output(text=now().astimezone(zone).isoformat(timespec="seconds"))

    return current_time


Number = int | float

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Number]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


def evaluate(expression: str) -> Number:
    """The value of an arithmetic expression: + - * / // % ** ^ and parentheses. Whole numbers stay exact.

    Raises:
        ToolError: it is no such expression, it has no value, or a number in it is too large.
    """
    if len(expression) > _MAX_EXPRESSION_CHARS:
        raise ToolError(f"The expression is longer than {_MAX_EXPRESSION_CHARS} characters.")
    try:
        tree = ast.parse(expression.replace("^", "**").strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ToolError("That is no arithmetic expression.") from error
    try:
        return _value(tree.body, 0)
    except ZeroDivisionError as error:
        raise ToolError("Division by zero.") from error
    except OverflowError as error:
        raise ToolError("The value is too large.") from error


def _value(node: ast.expr, depth: int) -> Number:
    """The value of a node. Every step is bounded: its operands are, and so is what one step can make of them."""
    if depth > _MAX_DEPTH:
        raise ToolError("The expression is nested too deeply.")
    match node:
        case ast.Constant(value=value) if isinstance(value, int | float) and not isinstance(value, bool):
            result: Number = value
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            result = -_value(operand, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            result = _value(operand, depth + 1)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            result = _power(_value(left, depth + 1), _value(right, depth + 1))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            result = _OPERATORS[type(op)](_value(left, depth + 1), _value(right, depth + 1))
        case _:
            raise ToolError("Only numbers and + - * / // % ^ ( ) can be used.")
    if not abs(result) <= _MAX_MAGNITUDE:
        raise ToolError("The value is too large.")
    return result


def _power(base: Number, exponent: Number) -> Number:
    if abs(exponent) > _MAX_EXPONENT:
        raise ToolError(f"Exponents go up to {_MAX_EXPONENT}.")
    if base < 0 and not float(exponent).is_integer():
        raise ToolError("The power has no real value.")
    value: Number = base**exponent  # at most 100 digits to the power of 256: 85,000 bits, some microseconds
    return value


def _shown(value: Number) -> str:
    """Whole numbers in full, others with the 12 digits that floating point can be trusted with."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT_BELOW:
        return str(int(value))
    return str(value) if isinstance(value, int) else f"{value:.12g}"


@tool(
    name="calculate",
    description="Evaluates an arithmetic expression.",
    input_schema={
        "type": "object",
        "properties": {
            "expression": {"type": "string", "description": "Such as (2 + 3) * 4 ^ 2", "maxLength": _MAX_EXPRESSION_CHARS}
        },
        "required": ["expression"],
    },
    time_limit_s=2.0,
)
def calculate(arguments: dict[str, Any], _: ToolContext) -> Output:
    """The value of an expression."""
    expression: str = arguments["expression"]
    return Output(text=f"{expression.strip()} = {_shown(evaluate(expression))}")


def default_registry(
    mono_ns: Callable[[], int],
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    before: Before | None = None,
    more: Iterable[Tool] = (),
) -> ToolRegistry:
    """The registry with all built-in tools, and `more`.

    Raises:
        ValueError: two tools have the same name.
    """
    current_time = tool(
        name="current_time",
        description="Tells the current date and time.",
        input_schema={
            "type": "object",
            "properties": {
                "timezone": {"type": "string", "description": "Such as Europe/Berlin; UTC by default.", "maxLength": 64}
            },
        },
        time_limit_s=2.0,
    )(_current_time(now))
    return ToolRegistry([search_knowledge, calculate, current_time, *more], mono_ns, before=before)
