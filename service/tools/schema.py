"""The subset of JSON schema that tools use, and the check of a tool's input against it.

`type: object` with `properties` and `required`; a property has a `type` (string, integer, number, boolean), a `description`, and may have `enum`, `minimum`,
`maximum`, `maxLength`. Pure. Models make mistakes: what is wrong is told in a sentence that one can read. A tool's author makes them too: a schema that
asks for more than is checked is refused when the tool is made.
"""

from __future__ import annotations

from typing import Any

DEFAULT_MAX_CHARS = 4000
"""The longest string where a property does not say."""

_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}
_PROPERTY_KEYS = frozenset("type description enum minimum maximum maxLength".split())
_OBJECT_KEYS = frozenset("type properties required description".split())


def check_schema(schema: dict[str, Any]) -> None:
    """Makes sure that `check_input` checks all that the schema says.

    Raises:
        ValueError: it says more, or requires what it does not describe.
    """
    if schema.get("type") != "object":
        raise ValueError("a tool's input is an object: the schema's type must be object")
    if unknown := set(schema) - _OBJECT_KEYS:
        raise ValueError(f"the schema uses {', '.join(sorted(unknown))}, which is not checked")
    properties: dict[str, dict[str, Any]] = schema.get("properties", {})
    for name, rule in properties.items():
        if rule.get("type") not in _TYPES:
            raise ValueError(f"{name} must have a type of {', '.join(_TYPES)}")
        if unknown := set(rule) - _PROPERTY_KEYS:
            raise ValueError(f"{name} uses {', '.join(sorted(unknown))}, which is not checked")
    if missing := set(schema.get("required", ())) - set(properties):
        raise ValueError(f"required but not described: {', '.join(sorted(missing))}")


def check_input(schema: dict[str, Any], value: object) -> str | None:
    """What is wrong with the value, in one sentence; None where nothing is. Properties that the schema does not know are no fault."""
    if not isinstance(value, dict):
        return "an object is expected"
    properties: dict[str, Any] = schema.get("properties", {})
    missing = [name for name in schema.get("required", ()) if name not in value]
    if missing:
        return f"missing: {', '.join(missing)}"
    problems = (_check_one(name, properties[name], item) for name, item in value.items() if name in properties)
    return next((problem for problem in problems if problem), None)


def _check_one(name: str, rule: dict[str, Any], item: object) -> str | None:
    kind = rule["type"]
    is_kind = isinstance(item, _TYPES[kind]) and (kind == "boolean" or not isinstance(item, bool))
    if not is_kind:
        return f"{name} must be of type {kind}"
    if "enum" in rule and item not in rule["enum"]:
        return f"{name} must be one of {', '.join(map(str, rule['enum']))}"
    if isinstance(item, str) and len(item) > (limit := rule.get("maxLength", DEFAULT_MAX_CHARS)):
        return f"{name} is longer than {limit} characters"
    if isinstance(item, int | float) and not rule.get("minimum", item) <= item <= rule.get("maximum", item):
        return f"{name} must lie between {rule.get('minimum', '-∞')} and {rule.get('maximum', '∞')}"
    return None
