"""`python -m collector.receive.decoder COUNT CHARS`: decodes bodies of spans in a process of its own, for the collector that started it.

On standard input come bodies of OTLP protobuf, each behind its length; on standard output goes what each came to, behind its lengths: an `Outcome`, and its spans as an Arrow
record batch with the columns of `SPANS`. Ends where its input ends, and with nothing else: whoever signals the whole group means the collector, which still has work for it.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import struct
import sys
from typing import BinaryIO

import msgspec
import pyarrow as pa
from msgspec import Struct

from collector.receive.attributes import AttributeLimits, Memo
from collector.receive.encodings import PROTOBUF, TooHeavy, Undecodable, parse_spans
from collector.receive.spans import READ, span_rows
from collector.store.batches import table_of
from collector.store.tables import SPANS

logger = logging.getLogger(__name__)

BODY = struct.Struct("<I")
"""Length of a body."""
ANSWER = struct.Struct("<II")
"""Lengths of an outcome and of its batch."""
_YOUNG = 100_000
"""Objects until the garbage collector looks for cycles: rows have none."""


class Outcome(Struct, array_like=True):
    """What became of a body: why spans of it were rejected, or why none of it can be read."""

    rejected: list[str] = []
    undecodable: str | None = None
    too_heavy: str | None = None


def decode(body: bytes, memo: Memo) -> tuple[Outcome, pa.RecordBatch | None]:
    """The outcome of a body, and its spans where it can be read."""
    try:
        rows, rejected = span_rows(parse_spans(PROTOBUF, body), memo)
    except TooHeavy as error:
        return Outcome(too_heavy=str(error)), None
    except Undecodable as error:
        return Outcome(undecodable=str(error)), None
    except Exception as error:  # the boundary of this process: were it to end, the sender would send the same again
        logger.exception("a body could not be decoded")
        return Outcome(undecodable=type(error).__name__), None
    table = table_of(rows, SPANS)
    return Outcome(rejected), pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], schema=SPANS)


def serve(incoming: BinaryIO, outgoing: BinaryIO, memo: Memo) -> None:
    """Answers bodies until there are no more."""
    while len(head := incoming.read(BODY.size)) == BODY.size:
        (size,) = BODY.unpack(head)
        outcome, batch = decode(incoming.read(size), memo)
        told = msgspec.msgpack.encode(outcome)
        spans = batch.serialize() if batch is not None else b""
        outgoing.write(ANSWER.pack(len(told), len(spans)))
        outgoing.write(told)
        outgoing.write(spans)
        outgoing.flush()


def main() -> int:
    """Serves standard input; the exit status."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    count, chars = map(int, sys.argv[1:])
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer, Memo(AttributeLimits(count, chars), READ))
    except BrokenPipeError:  # the collector is gone, and with it whoever waited
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is flushed at the end goes nowhere
    return 0


if __name__ == "__main__":
    sys.exit(main())
