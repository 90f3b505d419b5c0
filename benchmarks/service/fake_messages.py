"""A model provider as fast as Python can make it: the Messages streaming protocol with the script of the question: `python -m benchmarks.service.fake_messages PORT`."""

from __future__ import annotations

import asyncio
import json

from benchmarks.service.script import piece, script_of
from benchmarks.service.tiny_http import serve

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_bench\r\ntransfer-encoding: chunked\r\n\r\n"
_BATCH = 64


def _event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields}, separators=(',', ':'))}\n\n".encode()


_MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "script", "content": [], "stop_reason": None}
_BEGIN = (
    _event("message_start", message={**_MESSAGE, "stop_sequence": None, "usage": {"input_tokens": 9, "output_tokens": 1}})
    + _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    + _event("ping")
)
_END = (
    _event("content_block_stop", index=0)
    + _event("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": 99})
    + _event("message_stop")
)


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def _delta() -> bytes:
    return _event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece()})


def _question(body: bytes) -> str:
    content = json.loads(body)["messages"][-1]["content"]
    return content if isinstance(content, str) else str(content[-1]["text"])


async def _answer(body: bytes, writer: asyncio.StreamWriter) -> None:
    script = script_of(_question(body))
    writer.write(_HEAD + _chunked(_BEGIN))
    for at in range(0, script.n, 1 if script.pace_ms else _BATCH):
        if script.pace_ms:
            await asyncio.sleep(script.pace_ms / 1000)
        count = 1 if script.pace_ms else min(_BATCH, script.n - at)
        writer.write(_chunked(b"".join(_delta() for _ in range(count))))
        await writer.drain()
    writer.write(_chunked(_END) + b"0\r\n\r\n")


if __name__ == "__main__":
    serve(_answer)
