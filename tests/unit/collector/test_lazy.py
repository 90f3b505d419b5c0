"""Spans are read without decoding attributes that were seen before: the rows are those of the whole schema, and the memory stays bounded."""

import json

import pytest

from collector.receive import attributes
from collector.receive.attributes import AttributeLimits, Memo, plain_attributes
from collector.receive.encodings import PROTOBUF, parse_spans
from collector.receive.spans import READ, span_rows
from collector.store.tables import SPANS
from collector.synthetic.requests import span_request
from collector.synthetic.turns import synthesize
from lastword import names
from tests.support.otlp import spans

LIMITS = AttributeLimits(256, 16_384)


def read(request, memo):
    """Rows by column, and why spans were rejected."""
    rows, rejected = span_rows(request, memo)
    return [dict(zip(SPANS.names, row, strict=True)) for row in rows], rejected


def test_attributes_are_those_of_the_whole_schema():
    """Of realistic turns, each twice: the JSON of every span holds what decoding all of it gives."""
    request = span_request(list(synthesize(30, seed=4)))
    memo = Memo(LIMITS, READ)
    whole = [plain_attributes(span.attributes, LIMITS) for span in request.resource_spans[0].scope_spans[0].spans]
    for _ in range(2):
        rows, rejected = read(parse_spans(PROTOBUF, request.SerializeToString()), memo)
        assert rejected == []
        assert [json.loads(row["attributes"]) for row in rows] == whole
        assert [row["turn_id"] for row in rows] == [one[names.TURN_ID] for one in whole]
    assert read(request, Memo(LIMITS, READ)) == (rows, rejected)


def test_attribute_that_cannot_be_decoded_costs_its_own_span():
    """The neighbours are stored, and the reason names the span."""
    request = spans(3)
    body = request.SerializeToString().replace(b"trn_x", b"trn_\xff", 1)
    rows, rejected = read(parse_spans(PROTOBUF, body), Memo(LIMITS, READ))
    assert [row["name"] for row in rows] == ["span 1", "span 2"]
    assert len(rejected) == 1
    assert "span 0" in rejected[0]


def test_attributes_beyond_the_limit_and_long_ones_are_cut():
    """The first ones stay, and a long text is kept to its limit."""
    request = spans(1)
    span = request.resource_spans[0].scope_spans[0].spans[0]
    for number in range(5):
        span.attributes.add(key=f"k{number}").value.string_value = "x" * 20
    ((row,), _) = read(request, Memo(AttributeLimits(3, 8), READ))
    assert json.loads(row["attributes"]) == {names.TURN_ID: "trn_x", "k0": "x" * 8, "k1": "x" * 8}


@pytest.mark.parametrize("length", [10, 1000])
def test_memory_of_attributes_is_bounded(monkeypatch, length):
    """Ever new values are forgotten in time, and long ones are not remembered at all; what is read is right all the same."""
    monkeypatch.setattr(attributes, "MEMO_ENTRIES", 100)
    memo = Memo(LIMITS, READ)
    for number in range(250):
        request = spans(1)
        value = f"{number}" * length
        request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="k").value.string_value = value
        ((row,), _) = read(request, memo)
        assert json.loads(row["attributes"])["k"] == value[:16_384]
    assert len(memo._seen) <= 100
    assert (length < 100) == any(b"k" in raw[:3] for raw in memo._seen)
