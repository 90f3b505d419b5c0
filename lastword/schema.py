"""The JSON schema of the `done` event, generated from its type.

docs/done.schema.json is this function's output; a test fails where the two differ.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from lastword.events import Done


def done_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a `done` event as it stands in a frame's data."""
    (schema,), definitions = msgspec.json.schema_components([Done], ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "done event of turn/1.0",
        **schema,
        "$defs": definitions,
    }


def done_schema_text() -> str:
    """The schema as the text of its file."""
    return json.dumps(done_schema(), indent=2, ensure_ascii=False) + "\n"
