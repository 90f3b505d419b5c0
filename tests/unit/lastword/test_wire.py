"""The wire codec: bytes that survive any network."""

import itertools
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastword.errors import WireError
from lastword.events import Ext
from lastword.wire import HEARTBEAT, Frame, FrameParser, decode_event, decode_stream, encode_event, encode_json, scalar_text
from tests.unit.lastword.samples import ACK, DONE, TURN, WHOLE, chunk, error

STREAM = b"".join([encode_event(ACK), HEARTBEAT, encode_event(chunk(2, "zwölf 😀 Zeilen\r\n\u2028\x85\0")), encode_event(DONE)])


def parse(pieces):
    parser = FrameParser()
    return [frame for piece in pieces for frame in parser.feed(piece)]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_parser_survives_any_split(cuts):
    """Wherever the bytes are cut, the same frames come out."""
    edges = [0, *sorted(cuts), len(STREAM)]
    assert parse(STREAM[a:b] for a, b in itertools.pairwise(edges)) == parse([STREAM])


@pytest.mark.parametrize("ending", [b"\n", b"\r", b"\r\n"])
def test_parser_reads_one_byte_at_a_time_with_any_line_ending(ending):
    """LF, CR and CRLF, byte by byte."""
    text = STREAM.replace(b"\n", ending)
    assert [decode_event(frame) for frame in parse(bytes([byte]) for byte in text)] == decode_stream(STREAM)


@given(st.text(min_size=1, max_size=50))
def test_text_arrives_as_it_was_sent(text):
    """Whatever a model writes comes out again, on one line, without bare line separators."""
    event = chunk(2, scalar_text(text))
    data = encode_event(event)
    assert decode_stream(data) == [event]
    assert len(data.decode().splitlines()) == 4


def test_lone_surrogates_are_replaced_and_pairs_joined():
    """Half a character cannot be UTF-8; two halves are a character."""
    assert scalar_text("a\ud83d\ude00b\ud83dc") == "a😀b\ufffdc"


def test_absent_stages_are_absent_and_null_marks_are_null():
    """A stage that did not run is not on the wire; a first token that never came is null."""
    timings = json.loads(encode_json(error()))["metadata"]["stageTimings"]
    assert timings == {"firstTokenMs": None, "totalMs": 5}


def test_frame_is_event_id_and_one_data_line():
    """The frame's form, as a literal."""
    head, data = encode_event(chunk(7, "x")).split(b"data: ")
    assert head == f"event: chunk\nid: {TURN}.7\n".encode()
    assert data.endswith(b"}\n\n")


def test_unknown_event_is_an_ext():
    """A type that is not known is kept as such, with its place in the order."""
    frame = Frame("progress", msgspec.json.encode({"type": "progress", "turnId": TURN, "seq": 2, "tMs": 3, "x": 1}).decode())
    assert decode_event(frame) == Ext(type="progress", turn_id=TURN, seq=2, t_ms=3)


@pytest.mark.parametrize(
    "frame",
    [
        Frame("chunk", "{"),
        Frame("chunk", '{"type":"ack"}'),
        Frame("done", encode_json(ACK).decode()),
        Frame("chunk", encode_json(chunk(2, "x")).decode(), id=f"{TURN}.3"),
        Frame("chunk", encode_json(chunk(2, "x")).decode(), id="nonsense"),
        Frame("novel", "[]"),
        Frame("novel", "{}"),
    ],
)
def test_what_is_no_event_is_a_wire_error(frame):
    """Broken JSON, a wrong type, a wrong id: one typed error."""
    with pytest.raises(WireError):
        decode_event(frame)


@given(st.binary(max_size=200))
def test_garbage_is_frames_or_a_wire_error(data):
    """No bytes break the parser in any other way."""
    try:
        for frame in FrameParser().feed(data):
            decode_event(frame)
    except WireError:
        pass


def test_parser_is_bounded():
    """A frame that never ends is refused at the limit."""
    parser = FrameParser(max_frame_bytes=1000)
    with pytest.raises(WireError, match="longer than 1000 bytes"):
        for _ in range(20):
            parser.feed(b"data: " + b"x" * 100 + b"\n")


def test_whole_stream_round_trips():
    """Encode and decode are inverse on every known event."""
    assert decode_stream(b"".join(encode_event(event) for event in WHOLE)) == WHOLE
    assert decode_stream(encode_event(error())) == [error()]
