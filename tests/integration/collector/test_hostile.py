"""Hostile input: a clear answer, bounded memory, and neighbours that come to no harm."""

import gzip
import json

import httpx2
import pytest
import zstandard

from collector.receive.weight import MAX_PARTS
from tests.integration.collector.process import Program, processes
from tests.support.otlp import spans

MIB = 1024 * 1024
ROOM_MIB = 1024
"""How far the process may grow over any of these, in MiB; the bodies below would become many times that."""
PROTOBUF, JSON = "application/x-protobuf", "application/json"


def field(number, content):
    """A field of bytes, on the wire."""
    size, length = b"", len(content)
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content


BODIES = {
    "gzip bomb": (gzip.compress(b"\0" * (512 * MIB), 1), PROTOBUF, "gzip", 413),
    "zstd bomb": (zstandard.compress(b"\0" * (512 * MIB)), PROTOBUF, "zstd", 413),
    "100 MiB": (b"\0" * (100 * MIB), PROTOBUF, "identity", 413),
    "empty resources": (gzip.compress(b"\x0a\x00" * (30 * MIB), 1), PROTOBUF, "gzip", 413),
    "empty spans": (gzip.compress(field(1, field(2, b"\x12\x00" * (30 * MIB))), 1), PROTOBUF, "gzip", 413),
    "empty attributes": (gzip.compress(field(1, field(2, field(2, b"\x4a\x00" * (30 * MIB)))), 1), PROTOBUF, "gzip", 413),
    "empty objects": (gzip.compress(b'{"resourceSpans":[' + b"{}," * (20 * MIB) + b"{}]}", 1), JSON, "gzip", 413),
    "unknown values": (gzip.compress(b'{"x":[' + b'"y",' * (15 * MIB) + b"1]}", 1), JSON, "gzip", 413),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A collector with the limits that it comes with."""
    program = Program(tmp_path_factory.mktemp("hostile"))
    program.start()
    yield program
    program.stop()


def peak_mib(program):
    """The most memory that each of the processes has had since the mark was reset, added up."""
    found = [(one / "status").read_text(encoding="ascii") for one in processes(program)]
    return sum(int(line.split()[1]) for status in found for line in status.splitlines() if line.startswith("VmHWM")) // 1024


@pytest.mark.parametrize("name", BODIES)
def test_bomb_is_refused_within_bounded_memory(program, name):
    """Refused for good, whatever the bomb is made of, and the next request is taken."""
    body, kind, encoding, status = BODIES[name]
    assert program.post("traces", spans(2000).SerializeToString()).status_code == 200  # the decoder has started
    for one in processes(program):
        (one / "clear_refs").write_text("5")
    before = peak_mib(program)
    headers = {"content-type": kind, "content-encoding": encoding}
    answer = httpx2.post(f"{program.url}/v1/traces", content=body, headers=headers, trust_env=False, timeout=60)
    assert answer.status_code == status
    assert peak_mib(program) - before < ROOM_MIB
    assert program.post("traces", spans(1).SerializeToString()).status_code == 200


def test_full_body_of_ordinary_spans_is_taken(program):
    """Tens of thousands of spans in one request stay far below the limit on parts."""
    request = spans(20_000)
    assert request.ByteSize() > MIB
    assert len(request.resource_spans[0].scope_spans[0].spans) * 10 < MAX_PARTS
    before = program.rows("select count(*) from spans")[0][0]
    assert program.post("traces", request.SerializeToString()).status_code == 200
    assert program.rows("select count(*) from spans")[0][0] == before + 20_000


def nested(depth):
    """An attribute's value inside as many lists, in JSON."""
    value = {"intValue": "1"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    return value


@pytest.mark.parametrize(("depth", "status"), [(5, 200), (20, 200), (200, 400)])
def test_deep_nesting_is_cut_or_refused(program, depth, status):
    """A value that is nested too deeply for its column is cut; too deeply for the decoder, the request is refused."""
    span = {"traceId": "ab" * 16, "spanId": f"{depth:016x}", "name": "deep", "startTimeUnixNano": "1", "endTimeUnixNano": "2"}
    span["attributes"] = [{"key": "k", "value": nested(depth)}]
    body = json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()
    answer = httpx2.post(f"{program.url}/v1/traces", content=body, headers={"content-type": JSON}, trust_env=False, timeout=20)
    assert answer.status_code == status
    assert program.rows(f"select count(*) from spans where span_id = '{depth:016x}'") == [[int(status == 200)]]


def test_ten_thousand_attributes_and_far_times_harm_nobody(program):
    """Attributes are cut at their limit; times up to the last that a column holds are stored, those beyond are told, and the others are there."""
    request = spans(4)
    many, last, beyond, plain = request.resource_spans[0].scope_spans[0].spans
    for n in range(10_000):
        many.attributes.add(key=f"k{n}").value.int_value = n
    last.start_time_unix_nano = last.end_time_unix_nano = 2**63 - 1
    beyond.start_time_unix_nano = beyond.end_time_unix_nano = 2**64 - 1
    answer = program.post("traces", request.SerializeToString())
    assert answer.status_code == 200
    assert b"out of range" in answer.content
    stored = program.rows(f"select span_id, len(json_keys(attributes)) from spans where trace_id = '{plain.trace_id.hex()}'")
    assert dict(stored) == {many.span_id.hex(): 256, last.span_id.hex(): 1, plain.span_id.hex(): 1}


def test_broken_text_is_a_bad_request(program):
    """Bytes that are no UTF-8 where text belongs: 400, and nothing of it is stored."""
    request = spans(1)
    body = request.SerializeToString().replace(b"span 0", b"spa\xff 0")
    assert program.post("traces", body).status_code == 400


def test_the_last_time_of_all_survives_a_restart(tmp_path):
    """A span at the end of time is stored, and the store opens again with it; the same span is a duplicate then."""
    program = Program(tmp_path, LASTWORD_COLLECTOR_PUBLISH_MS="100")
    program.start()
    request = spans(2)
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.start_time_unix_nano = span.end_time_unix_nano = 2**63 - 1
    assert program.post("traces", request.SerializeToString()).status_code == 200
    program.stop()
    program.start()
    try:
        assert program.post("traces", request.SerializeToString()).status_code == 200
        assert program.rows("select count(*), count(distinct span_id) from spans") == [[2, 2]]
    finally:
        program.stop()


@pytest.mark.parametrize("others", [0, 2000])
def test_a_number_of_four_hundred_digits_harms_nobody(program, others):
    """It is no number of tokens, wherever the body is decoded; the span and its neighbours are stored."""
    request = spans(1 + others)
    first = request.resource_spans[0].scope_spans[0].spans[0]
    first.attributes.add(key="langfuse.observation.usage_details").value.string_value = '{"input":1' + "0" * 400 + "}"
    assert program.post("traces", request.SerializeToString()).status_code == 200
    stored = program.rows(f"select count(*), count(input_tokens) from spans where trace_id = '{first.trace_id.hex()}'")
    assert stored == [[1 + others, 0]]
