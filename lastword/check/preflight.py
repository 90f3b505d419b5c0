"""Is this a turn server at all? One question, before eighty.

Owns the verdict on servers that are something else: a closed port, a web page, plain JSON, an endless stream, garbage. Bounded in time and bytes.
"""

from __future__ import annotations

import contextlib
import json

from lastword.check.bench import Bench, Facts, json_of
from lastword.check.case import Failed
from lastword.check.exchange import OutOfTime, Unreachable
from lastword.check.stream import TurnStream
from lastword.errors import LastwordError

_LIMIT_S = 20.0
_MAX_BYTES = 1_000_000


class NoTurnServer(LastwordError):
    """What answers there cannot be checked; the message says what it is."""


def look(bench: Bench) -> Facts:
    """Asks one question and reads the beginning of its answer; what the server says of itself.

    Raises:
        NoTurnServer: it is no turn server, or does not let us ask.
    """
    bench.begin(_LIMIT_S)
    url = bench.target.url
    try:
        _ask(bench, url)
        return facts_of(bench)
    except Unreachable as error:
        raise NoTurnServer(f"nobody answers: {error}") from error
    finally:
        bench.end()


def _ask(bench: Bench, url: str) -> None:
    turn = bench.open("text, end")
    got = turn.exchange
    try:
        got.read_head(10)
    except OutOfTime:
        raise NoTurnServer(f"{url} takes the connection, but answers nothing within 10 s") from None
    kind = (got.header("content-type") or "").partition(";")[0].strip().lower()
    if got.status == 0:
        seen = bytes(got.raw[:60])
        why = f"it sent {seen!r}" if seen else "it closed the connection"
        raise NoTurnServer(f"{url} does not speak HTTP: {why}")
    if got.status in {401, 403}:
        raise NoTurnServer(f"{url} answers {got.status}: give it a key that may ask, with --api-key")
    if got.status == 200 and kind == "text/event-stream":
        _first_event(url, turn)
        return
    with contextlib.suppress(Failed):
        got.read_all(5)
    what = {"text/html": "a web page", "application/json": "plain JSON"}.get(kind, kind or "a response without content type")
    detail = ""
    if kind == "application/problem+json":
        what, detail = "a problem", f": {json_of(got).get('detail') or json_of(got).get('title')}"
    raise NoTurnServer(f"{url} is no turn server: POST /v1/turns answers {got.status} with {what}{detail}")


def _first_event(url: str, turn: TurnStream) -> None:
    try:
        turn.read(lambda: turn.events or len(turn.body) > _MAX_BYTES, "the first event", 10)
    except Failed:
        raise NoTurnServer(f"{url} opens an event stream, but no event comes within 10 s") from None
    if not turn.events:
        raise NoTurnServer(f"{url} sends {len(turn.body)} bytes that hold no event")
    with contextlib.suppress(Failed):  # let it end, so that it takes nobody's place
        turn.read(lambda: turn.terminal or len(turn.body) > _MAX_BYTES, "the terminal", 3)
    if not isinstance(turn.events[0].data.get("turnId"), str):
        raise NoTurnServer(f"{url} streams events that are no turn's: the first is {turn.events[0].kind!r} without a turnId")


def facts_of(bench: Bench) -> Facts:
    """`/.well-known/turn-contract`; a server without it is checked all the same."""
    try:
        got = bench.request("GET", "/.well-known/turn-contract", timeout_s=5)
        document = json.loads(got.body) if got.status == 200 else {}
    except (Failed, ValueError):
        document = {}
    return Facts.of(document if isinstance(document, dict) else {})
