"""Pieces of HTML for what is shown as it is: text to copy, a JSON value as a tree that opens, a file to save.

Drawn by the browser alone, without a library that it would have to load first: Streamlit's own elements for these cost a turn's page a third of its time. Every value is escaped.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

import msgspec

Json = dict[str, "Json"] | list["Json"] | str | int | float | bool | None

MAX_NODES = 2000
"""A tree of more values would keep a browser busy for seconds."""
MAX_DEPTH = 32
MAX_SAVED_BYTES = 1024 * 1024
"""What a link may hold of a file."""
_MAX_CHARS = 20_000
_KINDS = {str: "string", bool: "word", type(None): "word", int: "amount", float: "amount"}


def code(source: str) -> str:
    """Text in a frame, with a button that copies it."""
    return (
        '<div class="lw-verbatim"><button type="button" class="lw-button lw-copy" data-copy>Copy</button>'
        f"<pre><code>{escape(source)}</code></pre></div>"
    )


def saved(label: str, name: str, body: bytes, mime: str) -> str:
    """A link that saves a file of at most `MAX_SAVED_BYTES`, which it holds itself."""
    address = f"data:{quote(mime)};base64,{b64encode(body).decode('ascii')}"
    return f'<a class="lw-button" download="{escape(name)}" href="{address}">{escape(label)}</a>'


def json_text(text: str) -> str:
    """JSON as a tree whose objects and lists open and close, with the top open; the beginning of its text where it is too large or too deep for one."""
    try:
        value = msgspec.json.decode(text)
        if _fits(value):
            return f'<div class="lw-verbatim lw-json">{_node(None, value)}</div>'
    except RecursionError:
        pass
    cut = f"{text[:_MAX_CHARS]}\n… ({len(text):,} characters)" if len(text) > _MAX_CHARS else text
    return f'<div class="lw-verbatim lw-json"><pre>{escape(cut)}</pre></div>'


def _fits(value: Json) -> bool:
    """Whether a value is small and flat enough for a tree."""
    nodes, level = 0, [value]
    for _ in range(MAX_DEPTH):
        nodes += len(level)
        if nodes > MAX_NODES:
            return False
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, dict) else each if isinstance(each, list) else ())
        ]
        if not level:
            return True
    return False


def _node(name: str | None, value: Json) -> str:
    label = "" if name is None else f'<span class="lw-key">{escape(name)}</span>: '
    match value:
        case dict() if value:
            return _branch(label, "{}", value.items(), len(value), opened=name is None)
        case list() if value:
            return _branch(
                label, "[]", ((str(place), each) for place, each in enumerate(value)), len(value), opened=name is None
            )
    said = escape(msgspec.json.encode(value).decode())
    return f'<div>{label}<span class="lw-{_KINDS.get(type(value), "word")}">{said}</span></div>'


def _branch(label: str, brackets: str, inner: Iterable[tuple[str, Json]], count: int, *, opened: bool) -> str:
    begins, ends = brackets[0], brackets[1]
    below = "".join(_node(name, each) for name, each in inner)
    return (
        f"<details{' open' if opened else ''}><summary>{label}{begins}<span> {count} {ends}</span></summary>"
        f'<div class="lw-below">{below}</div>{ends}</details>'
    )
