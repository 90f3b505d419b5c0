"""Rows of `turn_spans.sql` and of `turn.sql` made from synthetic turns, as the collector would answer."""

from __future__ import annotations

import json
from typing import Any

from collector.synthetic.requests import span_request
from collector.synthetic.turns import synthesize
from collector.synthetic.world import SyntheticTurn
from lastword.wire import encode_json

Row = dict[str, Any]


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)


def span_rows(turn: SyntheticTurn) -> list[Row]:
    """A turn's spans."""
    return [
        {
            "span_id": span.span_id.hex(),
            "parent_span_id": span.parent_span_id.hex() or None,
            "name": span.name,
            "kind": "INTERNAL",
            "status": ("UNSET", "OK", "ERROR")[span.status.code],
            "status_message": None,
            "start_ns": span.start_time_unix_nano,
            "duration_ns": span.end_time_unix_nano - span.start_time_unix_nano,
            "attributes": json.dumps({each.key: _value(each.value) for each in span.attributes}),
            "events": json.dumps(
                [
                    {
                        "name": event.name,
                        "timeNs": event.time_unix_nano,
                        "attributes": {each.key: _value(each.value) for each in event.attributes},
                    }
                    for event in span.events
                ]
            ),
        }
        for span in span_request([turn]).resource_spans[0].scope_spans[0].spans
    ]


def turn_row(turn: SyntheticTurn) -> Row:
    """A turn's row, with the columns that a trace is compared with."""
    assert turn.done is not None
    body = turn.done.done or turn.done.error
    assert body is not None
    metadata = json.loads(encode_json(body))
    timings = body.stage_timings
    return {
        **{name: getattr(timings, name) for name in timings.__struct_fields__},
        "terminal": turn.done.terminal,
        "completion_status": metadata.get("completionStatus"),
        "partial": metadata.get("partial", False),
        "reason": metadata["reason"],
    }


def turns(count: int = 600) -> list[SyntheticTurn]:
    """Turns that ended, of every kind."""
    return [turn for turn in synthesize(count, seed=3) if turn.done is not None]
