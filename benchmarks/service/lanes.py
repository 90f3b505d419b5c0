"""The ways to stream that are compared, each as a program of its own on uvicorn: `python -m benchmarks.service.lanes NAME PORT`.

`bare` is the least that an async framework can do, and `to_thread` the bridge that first comes to mind for a synchronous worker. None of them keeps,
stores, resumes or observes anything. `sse-starlette` is what most services in Python use.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from litestar import Litestar, post
from litestar.response import Stream
from sse_starlette.sse import EventSourceResponse, ServerSentEvent

from benchmarks.service.script import Script, piece, script_of
from lastword.events import Chunk
from lastword.wire import encode_event

TURN_ID = "t" * 22
_END = b"event: done\ndata: {}\n\n"


def _frame(seq: int) -> bytes:
    return encode_event(Chunk(turn_id=TURN_ID, seq=seq, t_ms=0, text=piece()))


async def _pieces(script: Script) -> AsyncIterator[bytes]:
    """An async generator and nothing else."""
    for seq in range(1, script.n + 1):
        if script.pace_ms:
            await asyncio.sleep(script.pace_ms / 1000)
        yield _frame(seq)
    yield _END


async def _bridged(script: Script) -> AsyncIterator[bytes]:
    """A synchronous worker in a thread of its own, and a queue that is awaited in the default executor."""
    waiting: queue.Queue[bytes | None] = queue.Queue()

    def work() -> None:
        for seq in range(1, script.n + 1):
            if script.pace_ms:
                time.sleep(script.pace_ms / 1000)
            waiting.put(_frame(seq))
        waiting.put(_END)
        waiting.put(None)

    threading.Thread(target=work, daemon=True).start()
    while (frame := await asyncio.to_thread(waiting.get)) is not None:
        yield frame


def _litestar(make: Callable[[Script], AsyncIterator[bytes]]) -> Any:
    @post("/v1/turns", status_code=200)
    async def turns(data: dict[str, str]) -> Stream:
        return Stream(make(script_of(data["message"])), media_type="text/event-stream")

    return Litestar([turns], logging_config=None)


def _fastapi() -> Any:
    app = FastAPI()

    async def events(script: Script) -> AsyncIterator[ServerSentEvent]:
        for seq in range(1, script.n + 1):
            if script.pace_ms:
                await asyncio.sleep(script.pace_ms / 1000)
            data = {"type": "chunk", "turnId": TURN_ID, "seq": seq, "tMs": 0, "text": piece()}
            yield ServerSentEvent(data=json.dumps(data), event="chunk", id=f"{TURN_ID}.{seq}")
        yield ServerSentEvent(data="{}", event="done")

    async def turns(request: Request) -> EventSourceResponse:
        return EventSourceResponse(events(script_of((await request.json())["message"])))

    app.add_api_route("/v1/turns", turns, methods=["POST"])
    return app


LANES: dict[str, Callable[[], Any]] = {
    "bare": lambda: _litestar(_pieces),
    "to_thread": lambda: _litestar(_bridged),
    "sse-starlette": _fastapi,
}


def main() -> None:
    """Serves one lane."""
    name, port = sys.argv[1], int(sys.argv[2])
    uvicorn.run(LANES[name](), host="127.0.0.1", port=port, access_log=False, log_level="warning", backlog=2048)


if __name__ == "__main__":
    main()
