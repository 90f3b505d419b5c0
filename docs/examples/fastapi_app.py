"""Turns inside a FastAPI application. Run it with `python docs/examples/fastapi_app.py`."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

from service.embed import Answer, TurnRuntime

turns = TurnRuntime()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """The runtime lives as long as the application; at SIGTERM it ends its turns before the connections are cut."""
    async with turns:
        turns.drain_on()
        yield


app = FastAPI(lifespan=lifespan)


def user_of(request: Request) -> str:
    """Who asks. Your application knows: by a session, a cookie, a token. Here the token itself is the name."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise HTTPException(401, "Who are you?", {"WWW-Authenticate": "Bearer"})
    return token


def respond(answer: Answer) -> Response:
    """An answer of the runtime as a response of the framework."""
    if isinstance(answer.body, bytes):
        return Response(answer.body, answer.status, answer.headers)
    return StreamingResponse(answer.body, answer.status, answer.headers)


@app.post("/v1/turns")
async def ask(request: Request) -> Response:
    return respond(await turns.ask(await request.body(), caller=user_of(request), headers=request.headers))


@app.get("/v1/turns/{turn_id}/events")
async def follow(request: Request, turn_id: str, after: str | None = None) -> Response:
    return respond(await turns.follow(turn_id, caller=user_of(request), headers=request.headers, after=after))


@app.get("/v1/turns/{turn_id}")
async def look_at(request: Request, turn_id: str) -> Response:
    return respond(await turns.look_at(turn_id, caller=user_of(request)))


@app.post("/v1/turns/{turn_id}/cancel")
async def cancel(request: Request, turn_id: str) -> Response:
    return respond(await turns.cancel(turn_id, caller=user_of(request)))


@app.get("/.well-known/turn-contract")
async def contract() -> Response:
    return respond(turns.contract())


if __name__ == "__main__":
    port = int(os.environ.get("LASTWORD_SERVICE_PORT", "8000"))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=10)
