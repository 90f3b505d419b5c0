"""What can be wrong with the bytes."""

import asyncio
import socket

from tests.conformance.broken.registry import breaks
from tests.conformance.reference import Reference


@breaks("W1", "the answer is 201")
class Created(Reference):
    """Answers 201, as frameworks do for a POST."""

    def head(self, turn):
        return 201, super().head(turn)[1]


@breaks("W2", "X-Accel-Buffering")
class Buffered(Reference):
    """Lets proxies buffer."""

    def head(self, turn):
        status, headers = super().head(turn)
        return status, {name: value for name, value in headers.items() if name != "X-Accel-Buffering"}


@breaks("W2b", "the stream is encoded")
class Packed(Reference):
    """Claims to be packed."""

    def head(self, turn):
        status, headers = super().head(turn)
        return status, {**headers, "Content-Encoding": "gzip"}


@breaks("W3", "the first event came after")
class LateAck(Reference):
    """Sends `ack` only when the model has begun to answer."""

    async def before_ack(self, turn):
        await super().before_ack(turn)
        await asyncio.sleep(0.7)


@breaks("W4", "carriage returns")
class CrLf(Reference):
    """Ends lines as Windows does."""

    def frame(self, turn, kind, fields):
        return super().frame(turn, kind, fields).replace(b"\n", b"\r\n")


@breaks("W4b", "a block has the fields")
class TwoDataLines(Reference):
    """Breaks the data of a chunk over two lines, which the standard allows and the contract does not."""

    def frame(self, turn, kind, fields):
        frame = super().frame(turn, kind, fields)
        return frame.replace(b',"seq"', b',\ndata: "seq"') if kind == "chunk" else frame


@breaks("W5", "says type 'chunk'")
class OtherType(Reference):
    """Calls its chunks `delta` in the event field."""

    def frame(self, turn, kind, fields):
        return super().frame(turn, kind, fields).replace(b"event: chunk", b"event: delta")


@breaks("W6", "seq runs")
class Gap(Reference):
    """Leaves a number out before the terminal."""

    def frame(self, turn, kind, fields):
        frame = super().frame(turn, kind, fields)
        seq = turn.seq + 1
        for form in (b".%d\n", b'"seq":%d'):
            frame = frame.replace(form % seq, form % (seq + 1)) if kind == "done" else frame
        return frame


@breaks("W7", "the id is")
class BareIds(Reference):
    """Names only the number in its ids."""

    def frame(self, turn, kind, fields):
        return super().frame(turn, kind, fields).replace(f"id: {turn.id}.".encode(), b"id: ")


@breaks("W8", "stands unescaped")
class Unescaped(Reference):
    """Writes line separators as they are."""

    def encode(self, fields):
        text = super().encode(fields)
        return text.replace("\\u2028", "\u2028").replace("\\u0085", "\u0085")


@breaks("W9", "a split pair arrived as")
class HalfCharacters(Reference):
    """Writes each half of a split character by itself."""

    def whole_text(self, turn, text, *, last):
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


@breaks("W10", "is not the digest")
class ForgetfulDigest(Reference):
    """Keeps no more than the last hundred pieces for its digest."""

    def metadata(self, turn, status, stop, reason):
        kept, turn.texts = turn.texts, turn.texts[-100:]
        digest = turn.digest()
        turn.texts = kept
        return super().metadata(turn, status, stop, reason) | {"streamedSha256": digest}


@breaks("W11", "the response ended by eof")
class NoEnd(Reference):
    """Closes without the last chunk."""

    async def end_stream(self, turn, writer):
        pass


@breaks("W12", "open a second after")
class StaysOpen(Reference):
    """Keeps the connection for a while after its end."""

    async def end_stream(self, turn, writer):
        await super().end_stream(turn, writer)
        await asyncio.sleep(3)


@breaks("W13", "ms late")
class Clumps(Reference):
    """Sends what has gathered once in a while."""

    async def send(self, writer, data):
        self.sent = getattr(self, "sent", 0) + 1
        await asyncio.sleep(0.7 if self.sent % 4 == 0 else 0)
        await super().send(writer, data)


@breaks("W14", "ended|differ")
class ShortWrites(Reference):
    """Forgets what the socket does not take at once."""

    async def send(self, writer, data):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        if writer.transport.get_write_buffer_size() == 0:
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await asyncio.sleep(0)


@breaks("W3b", "the first event is 'chunk'")
class TextBeforeAck(Reference):
    """Says something friendly while it looks at the question."""

    def acknowledge(self, turn):
        self.append(turn, "chunk", {"text": "One moment. "})
        super().acknowledge(turn)


@breaks("W7b", "too short for 128 random bits")
class CountedIds(Reference):
    """Counts its turns."""

    def begin(self, turn, request):
        turn.id = f"turn_{len(self.turns)}"
        return super().begin(turn, request)


@breaks("W8b", "the text arrived as")
class DropsControls(Reference):
    """Cleans what a terminal might obey."""

    def whole_text(self, turn, text, *, last):
        return super().whole_text(turn, text.replace("\0", "").replace("\r", ""), last=last)


@breaks("W9b", "without its other half")
class DropsHalves(Reference):
    """Leaves out what is no character."""

    def whole_text(self, turn, text, *, last):
        return super().whole_text(turn, text, last=last).replace("\ufffd", "")


@breaks("W10b", "which are not the")
class LosesPiece(Reference):
    """Loses one piece of a long answer, and counts what is left."""

    def worth_showing(self, text):
        self.pieces = getattr(self, "pieces", 0) + 1
        return bool(text) and self.pieces != 100


@breaks("W11b", "something follows the terminal|the stream has")
class Postscript(Reference):
    """Says one thing more."""

    async def end_stream(self, turn, writer):
        await self.send(writer, self.frame(turn, "note", {}))
        await super().end_stream(turn, writer)
