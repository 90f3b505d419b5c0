"""The wire codec: events to server-sent-event frames and back.

Owns the bytes. A frame is `event: T`, `id: {turnId}.{seq}` and one `data:` line of JSON, LF only, UTF-8. The parser accepts what
the server-sent-events standard allows (CR, LF, CRLF, comments, several data lines, a byte order mark) and any split of the bytes,
because networks split where they like. Its buffer is bounded.
"""

from __future__ import annotations

import msgspec

from lastword.errors import WireError
from lastword.events import Ack, AnyEvent, Chunk, Done, Error, Ext, Known
from lastword.ids import frame_id, parse_frame_id

HEARTBEAT = b": hb\n\n"
"""A comment that keeps a silent connection open. It never moves the cursor."""

MAX_FRAME_BYTES = 8 * 1024 * 1024
"""The longest frame that the parser holds, in bytes."""

MEDIA_TYPE = "text/event-stream"

_ENCODER = msgspec.json.Encoder()
_KNOWN = msgspec.json.Decoder(Ack | Chunk | Done | Error)
_EXT = msgspec.json.Decoder(dict[str, object])
_TAGS = {kind: kind.__struct_config__.tag for kind in (Ack, Chunk, Done, Error)}
_KNOWN_TYPES = frozenset(_TAGS.values())
# Line separators for some readers (JavaScript before 2019, str.splitlines): escaped, which JSON allows anywhere in a string.
_ESCAPES = ((b"\xc2\x85", b"\\u0085"), (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"))


class Frame(msgspec.Struct, frozen=True):
    """One server-sent event as parsed. `event` is `message` where the sender named none."""

    event: str
    data: str
    id: str | None = None


def scalar_text(text: str) -> str:
    """The text with surrogate pairs joined and lone surrogates replaced by U+FFFD, so that it can be written as UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def encode_json(value: object) -> bytes:
    """JSON of an event or a record, on one line, with every line separator escaped."""
    data = _ENCODER.encode(value)
    if data.isascii():
        return data
    for raw, escaped in _ESCAPES:
        if raw in data:
            data = data.replace(raw, escaped)
    return data


def encode_event(event: Known) -> bytes:
    """The frame of an event."""
    head = f"event: {_TAGS[type(event)]}\nid: {frame_id(event.turn_id, event.seq)}\ndata: ".encode()
    return b"%b%b\n\n" % (head, encode_json(event))


def decode_event(frame: Frame) -> AnyEvent:
    """The event of a frame; `Ext` for a type that this package does not know.

    Raises:
        WireError: the data is no JSON object of the type that the frame names, or the frame's id contradicts it.
    """
    try:
        event: AnyEvent
        if frame.event in _KNOWN_TYPES:
            event = _KNOWN.decode(frame.data)
            if type(event).__struct_config__.tag != frame.event:
                raise WireError(f"frame says event {frame.event!r}, its data says {type(event).__struct_config__.tag!r}")
        else:
            fields = _EXT.decode(frame.data)
            event = msgspec.convert(
                {
                    "type": frame.event,
                    "turn_id": fields.get("turnId"),
                    "seq": fields.get("seq"),
                    "t_ms": fields.get("tMs"),
                },
                Ext,
            )
    except msgspec.MsgspecError as error:
        raise WireError(f"event {frame.event!r} cannot be read: {error}") from error
    if frame.id is not None and parse_frame_id(frame.id) != (event.turn_id, event.seq):
        raise WireError(f"frame id {frame.id!r} does not name turn {event.turn_id} and seq {event.seq}")
    return event


class FrameParser:
    """Turns bytes, split anywhere, into frames.

    Not thread-safe: one parser reads one connection.
    """

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_frame_bytes = max_frame_bytes
        self._buffer = bytearray()
        self._scanned = 0
        self._skip_lf = False
        self._at_start = True
        self._event = ""
        self._data: list[str] = []
        self._data_bytes = 0
        self._id: str | None = None

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that these bytes complete.

        Raises:
            WireError: a frame is longer than the limit, or not UTF-8.
        """
        self._buffer += data
        frames: list[Frame] = []
        while (line := self._next_line()) is not None:
            frame = self._take(line)
            if frame is not None:
                frames.append(frame)
        if len(self._buffer) + self._data_bytes > self._max_frame_bytes:
            raise WireError(f"a frame is longer than {self._max_frame_bytes} bytes")
        return frames

    def _next_line(self) -> bytes | None:
        """The next whole line without its end, which is LF, CR or CRLF, in whatever pieces it came."""
        buffer = self._buffer
        if self._skip_lf and buffer:
            if buffer[0] == 0x0A:
                del buffer[:1]
            self._skip_lf = False
        lf = buffer.find(b"\n", self._scanned)
        cr = buffer.find(b"\r", self._scanned, lf if lf >= 0 else len(buffer))
        end = cr if cr >= 0 else lf
        if end < 0:
            self._scanned = len(buffer)
            return None
        line = bytes(buffer[:end])
        self._skip_lf = end == cr
        del buffer[: end + 1]
        self._scanned = 0
        return line

    def _take(self, line: bytes) -> Frame | None:
        """Applies one line; the frame, where the line was the blank one that ends it."""
        if self._at_start:
            line = line.removeprefix(b"\xef\xbb\xbf")
            self._at_start = False
        if not line:
            return self._dispatch()
        if line[:1] == b":":
            return None
        name, _, raw = line.partition(b":")
        try:
            value = raw.removeprefix(b" ").decode()
        except UnicodeDecodeError as error:
            raise WireError(f"a line is not UTF-8: {error}") from error
        match name:
            case b"event":
                self._event = value
            case b"data":
                self._data.append(value)
                self._data_bytes += len(raw) + 1
            case b"id" if "\0" not in value:
                self._id = value
            case _:
                pass  # `retry` and fields of later standards carry nothing for us
        return None

    def _dispatch(self) -> Frame | None:
        frame = Frame(self._event or "message", "\n".join(self._data), self._id) if self._data else None
        self._event = ""
        self._data = []
        self._data_bytes = 0
        self._id = None  # unlike a browser we want each frame's own id, not the last one seen
        return frame


def decode_stream(data: bytes) -> list[AnyEvent]:
    """Every event of a whole stream held in memory."""
    return [decode_event(frame) for frame in FrameParser().feed(data)]
