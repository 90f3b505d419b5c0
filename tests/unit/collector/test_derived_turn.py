"""A turn made of spans says what they say, counts nothing twice, and claims nothing that they do not say."""

import json

import pytest

from collector.derive.turn import SpanFacts, turn_of

TRACE = "a" * 32
MS = 1_000_000
T0 = 1_800_000_000_000 * MS


def span(name, start_ms, end_ms, parent="root", **facts):
    facts = {"status": "UNSET", "span_id": name, **facts}
    return SpanFacts(
        name=name, parent_span_id=parent, start_ns=T0 + start_ms * MS, duration_ns=(end_ms - start_ms) * MS, **facts
    )


def root(**facts):
    return span("root", 0, 1000, None, service_name="shop", **facts)


def call(name, start_ms, end_ms, parent="root", **facts):
    return span(name, start_ms, end_ms, parent, **{"operation": "chat", "input_tokens": 10, "output_tokens": 5, **facts})


def test_turn_has_the_columns_of_its_spans():
    """The whole row of a turn with retrieval, a tool and two calls."""
    spans = [
        root(),
        span("search", 10, 60, operation="retrieval"),
        span("again", 40, 80, operation="retrieval"),
        call("first", 100, 300, model="m1", finish_reason="tool_use", conversation_id="c"),
        span("t", 300, 400, operation="execute_tool", tool_name="lookup"),
        span("t2", 300, 410, operation="execute_tool", tool_name="lookup"),
        call("second", 410, 900, model="m2", finish_reason="end_turn", first_token_ms=40, cache_read_tokens=3),
    ]
    assert turn_of(TRACE, reversed(spans)) == {
        "turn_id": TRACE,
        "trace_id": TRACE,
        "span_id": "root",
        "conversation_id": "c",
        "started_ns": T0,
        "ended_ns": T0 + 1000 * MS,
        "terminal": "done",
        "origin": "spans",
        "model": "m2",
        "completion_status": "success",
        "partial": False,
        "reason": None,
        "finish_reason": "end_turn",
        "error_message": None,
        "input_tokens": 20,
        "output_tokens": 10,
        "cache_read_tokens": 3,
        "cache_write_tokens": None,
        "tools_used": json.dumps(["lookup"]),
        "tool_calls_count": 2,
        "retrieval_ms": 70,
        "model_wait_ms": 350,
        "stream_ms": 450,
        "first_token_ms": 450,
        "total_ms": 1000,
        "service_name": "shop",
    }


@pytest.mark.parametrize(
    "spans",
    [
        [],
        [root()],
        [root(), span("query", 1, 2)],
        [call("orphan", 1, 2, "elsewhere")],
        [root(turn_id="trn_1"), call("c", 1, 2)],
        [root(), call("c", 1, 2, turn_id="trn_1")],
    ],
    ids=["nothing", "root alone", "no GenAI", "no root", "root of a turn", "turn inside"],
)
def test_what_is_no_foreign_turn_is_none(spans):
    """Traffic without a model, a trace whose root has not come, and turns that have a record of their own."""
    assert turn_of(TRACE, spans) is None


def test_call_without_parent_is_a_turn():
    """An instrumented client in a script has no other root."""
    turn = turn_of(TRACE, [call("only", 0, 10, None)])
    assert (turn["span_id"], turn["total_ms"], turn["input_tokens"]) == ("only", 10, 10)


def test_service_behind_another_has_a_root_of_its_own():
    """A parent in another process that sends nothing here; the trace's own root comes first where it is there."""
    inner = span("inner", 5, 500, "gateway", remote_parent=True)
    assert turn_of(TRACE, [inner, call("c", 10, 20, "inner")])["span_id"] == "inner"
    assert turn_of(TRACE, [inner, call("c", 10, 20, "inner"), span("gateway", 6, 600, None)])["span_id"] == "gateway"


def test_call_inside_a_call_is_counted_once():
    """Two instruments on one call, with a span of neither between them, and an agent's sum over its calls."""
    spans = [
        root(operation="invoke_agent", input_tokens=20, output_tokens=10),
        call("outer", 0, 500),
        span("http", 1, 499, "outer"),
        call("inner", 2, 498, "http"),
        call("other", 600, 700),
    ]
    turn = turn_of(TRACE, spans)
    assert (turn["input_tokens"], turn["output_tokens"]) == (20, 10)


def test_tokens_of_the_root_count_where_no_call_is_seen():
    """An agent that tells its sum, and no calls."""
    turn = turn_of(TRACE, [root(operation="invoke_agent", input_tokens=7, first_token_ms=30)])
    assert (turn["input_tokens"], turn["output_tokens"], turn["first_token_ms"], turn["model_wait_ms"]) == (7, None, 30, None)


@pytest.mark.parametrize(
    ("word", "status", "partial", "reason"),
    [
        ("stop", "success", False, None),
        ("max_tokens", "truncated", True, "output_limit"),
        ("LENGTH", "truncated", True, "output_limit"),
        ("refusal", "refused", False, "refusal"),
        ("tool_use", None, False, None),
        ("novel", None, False, None),
        (None, None, False, None),
    ],
)
def test_status_is_what_the_finish_reason_tells(word, status, partial, reason):
    """Never success where nobody said so."""
    turn = turn_of(TRACE, [root(), call("c", 1, 2, finish_reason=word)])
    assert (turn["completion_status"], turn["partial"], turn["reason"]) == (status, partial, reason)


def test_failed_root_is_an_error():
    """With its words; and a failed last call is no success, whatever it said."""
    failed = turn_of(TRACE, [root(status="ERROR", status_message="boom"), call("c", 1, 2, finish_reason="stop")])
    assert (failed["terminal"], failed["error_message"], failed["completion_status"]) == ("error", "boom", None)
    kept = turn_of(TRACE, [root(), call("c", 1, 2, status="ERROR", finish_reason="stop")])
    assert (kept["terminal"], kept["completion_status"]) == ("done", None)


def test_ring_of_parents_ends():
    """Spans that call each other their parent, and one that calls itself so, cost no more than their own turn."""
    ring = [root(), call("a", 1, 2, "b"), call("b", 1, 2, "a"), call("self", 1, 2, "self")]
    assert turn_of(TRACE, ring)["turn_id"] == TRACE
