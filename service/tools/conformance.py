"""The tool that `lastword check` uses to see every outcome a tool can have. Not among the built-in tools: `LASTWORD_SERVICE_TOOLS` names it."""

from __future__ import annotations

from typing import Any

from service.tools.registry import Output, ToolContext, ToolError, tool

_HANG_S = 60.0


@tool(
    name="conformance_probe",
    description="Does as it is told, so that every outcome of a tool can be seen.",
    input_schema={
        "type": "object",
        "properties": {"behaviour": {"type": "string", "enum": ["results", "empty", "error", "hang"]}},
        "required": ["behaviour"],
    },
    time_limit_s=1.0,
)
def conformance_probe(arguments: dict[str, Any], context: ToolContext) -> Output:
    """Results, nothing, an error, or no end until nobody waits any more."""
    match arguments["behaviour"]:
        case "error":
            raise ToolError("It was told to fail.")
        case "empty":
            return Output(text="")
        case "hang":
            context.cancelled.wait(_HANG_S)
            raise ToolError("It was told to hang, and nobody waits any more.")
    return Output(text="It was told to find something, and did.")
