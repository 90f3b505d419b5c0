"""Turns inside a Django application, over ASGI. Run it with `python docs/examples/django_app.py`."""

import os
from collections.abc import Awaitable, Callable
from typing import Any

import django
import uvicorn
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from service.embed import Answer, TurnRuntime

settings.configure(DEBUG=False, ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, SECRET_KEY=os.urandom(32).hex(), MIDDLEWARE=[])
django.setup()
turns = TurnRuntime()


def user_of(request: HttpRequest) -> str | None:
    """Who asks: `request.user` in an application with sessions. Here the token itself is the name."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" and token else None


def respond(answer: Answer) -> HttpResponseBase:
    """An answer of the runtime as a response of the framework."""
    if isinstance(answer.body, bytes):
        return HttpResponse(answer.body, status=answer.status, headers=answer.headers)
    return StreamingHttpResponse(answer.body, status=answer.status, headers=answer.headers)


def stranger() -> HttpResponse:
    problem = b'{"title": "Who are you?", "status": 401}'
    return HttpResponse(problem, "application/problem+json", 401, headers={"WWW-Authenticate": "Bearer"})


@csrf_exempt  # the caller presents a token; an application that uses cookies keeps Django's protection
async def ask(request: HttpRequest) -> HttpResponseBase:
    if (user := user_of(request)) is None:
        return stranger()
    return respond(await turns.ask(request.body, caller=user, headers=request.headers))


async def follow(request: HttpRequest, turn_id: str) -> HttpResponseBase:
    if (user := user_of(request)) is None:
        return stranger()
    return respond(await turns.follow(turn_id, caller=user, headers=request.headers, after=request.GET.get("after")))


async def look_at(request: HttpRequest, turn_id: str) -> HttpResponseBase:
    if (user := user_of(request)) is None:
        return stranger()
    return respond(await turns.look_at(turn_id, caller=user))


@csrf_exempt
async def cancel(request: HttpRequest, turn_id: str) -> HttpResponseBase:
    if (user := user_of(request)) is None:
        return stranger()
    return respond(await turns.cancel(turn_id, caller=user))


async def contract(_: HttpRequest) -> HttpResponseBase:
    return respond(turns.contract())


urlpatterns = [
    path("v1/turns", ask),
    path("v1/turns/<str:turn_id>/events", follow),
    path("v1/turns/<str:turn_id>", look_at),
    path("v1/turns/<str:turn_id>/cancel", cancel),
    path(".well-known/turn-contract", contract),
]
django_app = get_asgi_application()


async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
    """Django has no lifespan of its own: the runtime begins and ends here."""
    if scope["type"] != "lifespan":
        await django_app(scope, receive, send)
        return
    async with turns:
        await receive()
        turns.drain_on()
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})


if __name__ == "__main__":
    port = int(os.environ.get("LASTWORD_SERVICE_PORT", "8000"))
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=10)
