"""A check of a tool's input against the subset of JSON schema that tools use.

`type: object` with `properties` (string, integer, number, boolean; `enum`, `minimum`, `maximum`, `maxLength`) and `required`. Models make mistakes: the
answer is a sentence that one can read.
"""

from __future__ import annotations

from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


def check_input(schema: dict[str, Any], value: object) -> str | None:
    """What is wrong with the value, in one sentence; None where nothing is."""
    if not isinstance(value, dict):
        return "an object is expected"
    properties: dict[str, Any] = schema.get("properties", {})
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        return f"missing: {', '.join(missing)}"
    problems = (_check_one(name, properties[name], item) for name, item in value.items() if name in properties)
    return next((problem for problem in problems if problem), None)


def _check_one(name: str, rule: dict[str, Any], item: object) -> str | None:
    kind = rule.get("type", "string")
    is_kind = isinstance(item, _TYPES[kind]) and (kind == "boolean" or not isinstance(item, bool))
    if not is_kind:
        return f"{name} must be of type {kind}"
    if "enum" in rule and item not in rule["enum"]:
        return f"{name} must be one of {', '.join(map(str, rule['enum']))}"
    if isinstance(item, str) and len(item) > rule.get("maxLength", 4000):
        return f"{name} is too long"
    if isinstance(item, int | float) and not rule.get("minimum", item) <= item <= rule.get("maximum", item):
        return f"{name} must lie between {rule.get('minimum', '-∞')} and {rule.get('maximum', '∞')}"
    return None
