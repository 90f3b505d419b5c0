"""The decoder under mutated requests: rows that fit their columns, or a refusal that names what is wrong. Never another error."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from collector.receive.attributes import AttributeLimits, Memo
from collector.receive.encodings import JSON, PROTOBUF, TooHeavy, Undecodable, parse, parse_spans
from collector.receive.records import record_rows
from collector.receive.spans import READ, span_rows
from collector.store.batches import table_of
from collector.store.tables import ACCEPTED, CONTENT, ENDED, SPANS
from tests.integration.collector.test_receive import as_otlp_json, rich_request
from tests.support.otlp import accepted, ended, log_request

LIMITS = AttributeLimits(16, 64)
_RECORDS = log_request(accepted("t1"), ended("t1"), ended("t2", failed=True))
SEEDS = {
    ("traces", PROTOBUF): rich_request().SerializeToString(),
    ("traces", JSON): json.dumps(as_otlp_json(rich_request())).encode(),
    ("logs", PROTOBUF): _RECORDS.SerializeToString(),
    ("logs", JSON): json.dumps(as_otlp_json(_RECORDS)).encode(),
}
_PIECES = st.binary(max_size=12) | st.sampled_from(
    [
        b"\xff" * 10,
        b"\x00",
        b"\x0a\x00",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"null",
        b"[]",
        b"{}",
        b'"\\ud800"',
        b"\xed\xa0\x80",
    ]
)
_MUTATIONS = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 12), _PIECES), min_size=1, max_size=4)
"""Where, how many bytes are taken out, and what is put in their place."""


@pytest.mark.parametrize("seed", SEEDS, ids=lambda seed: f"{seed[0]} {seed[1]}")
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(mutations=_MUTATIONS)
def test_mutated_request_becomes_rows_or_is_refused(seed, mutations):
    """Every row of what is left of a real request can be committed with its neighbours'."""
    signal, encoding = seed
    body = SEEDS[seed]
    for where, cut, piece in mutations:
        at = int(where * len(body))
        body = body[:at] + piece + body[at + cut :]
    try:
        if signal == "traces":
            rows, _ = span_rows(parse_spans(encoding, body), Memo(LIMITS, READ))
            table_of(rows, SPANS)
        else:
            found, _, _ = record_rows(parse(encoding, ExportLogsServiceRequest, body), 100)
            for some, schema in ((found.accepted, ACCEPTED), (found.ended, ENDED), (found.content, CONTENT)):
                table_of(some, schema)
    except (Undecodable, TooHeavy) as error:
        refused = str(error)
    else:
        refused = None
    assert refused is None or len(refused) > 0
