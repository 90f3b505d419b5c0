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

LIMIT_S = 20.0
HEAD_S = 10.0
EVENT_S = 10.0
REST_S = 3.0
_MAX_BYTES = 1_000_000
_MAX_DETAIL = 200


class NoTurnServer(LastwordError):
    """What answers there cannot be checked; the message says what it is."""


def look(bench: Bench) -> Facts:
    """Asks one question and reads the beginning of its answer; what the server says of itself.

    Raises:
        NoTurnServer: it is no turn server, or does not let us ask.
    """
    bench.begin(LIMIT_S)
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
        got.read_head(HEAD_S)
    except OutOfTime:
        began = "begins an answer, but does not end its headers" if got.raw else "takes the connection, but answers nothing"
        raise NoTurnServer(f"{url} {began} within {HEAD_S:g} s") from None
    kind = (got.header("content-type") or "").partition(";")[0].strip().lower()
    if got.status == 0:
        seen = bytes(got.raw[:60])
        why = f"it sent {seen!r} ({got.why_broken or got.end})" if seen else f"it closed the connection ({got.end})"
        tls = "; is it https:// and not http://?" if seen[:2] == b"\x15\x03" else ""
        raise NoTurnServer(f"{url} does not speak HTTP: {why}{tls}")
    if got.status in {401, 403}:
        raise NoTurnServer(f"{url} answers {got.status}: give it a key that may ask, with --api-key")
    if got.status == 200 and kind == "text/event-stream":
        _first_event(url, turn)
        return
    with contextlib.suppress(Failed):
        got.read_until(lambda: got.size > _MAX_BYTES, REST_S, "the end of the response")
    if kind == "application/problem+json":
        told = json_of(got).get("detail") or json_of(got).get("title")
        raise NoTurnServer(f"{url} does not let us ask: POST /v1/turns answers {got.status}: {_one_line(str(told))}")
    what = {"text/html": "a web page", "application/json": "plain JSON"}.get(kind, kind or "a response without content type")
    to = f" to {_one_line(got.header('location') or 'nowhere')}" if got.status in {301, 302, 303, 307, 308} else ""
    raise NoTurnServer(f"{url} is no turn server: POST /v1/turns answers {got.status}{to} with {what}")


def _one_line(text: str) -> str:
    """What a server said, fit to stand in a message: no line ends, no control characters, not too long."""
    shown = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return shown if len(shown) <= _MAX_DETAIL else shown[:_MAX_DETAIL] + " …"


def _first_event(url: str, turn: TurnStream) -> None:
    try:
        turn.read(lambda: turn.events or turn.exchange.size > _MAX_BYTES, "the first event", EVENT_S)
    except Failed:
        raise NoTurnServer(f"{url} opens an event stream, but no event comes within {EVENT_S:g} s") from None
    if not turn.events:
        raise NoTurnServer(f"{url} opens an event stream, and sends {turn.exchange.size} bytes that hold no event")
    with contextlib.suppress(Failed):  # let it end, so that it takes nobody's place
        turn.read(lambda: turn.terminal or turn.exchange.size > _MAX_BYTES, "the terminal", REST_S)
    if not isinstance(turn.events[0].data.get("turnId"), str):
        raise NoTurnServer(
            f"{url} streams events that are no turn's: the first is {_one_line(turn.events[0].kind)!r} without a turnId"
        )


def facts_of(bench: Bench) -> Facts:
    """`/.well-known/turn-contract`; a server without it is checked all the same."""
    try:
        got = bench.request("GET", "/.well-known/turn-contract", timeout_s=5)
        document = json.loads(got.body) if got.status == 200 else {}
    except (Failed, ValueError, RecursionError):
        document = {}
    return Facts.of(document if isinstance(document, dict) else {})
