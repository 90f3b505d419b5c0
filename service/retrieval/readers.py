"""Readers: files to passages. Markdown, HTML, plain text and JSON lines.

Pure but for reading the file. What cannot be read is reported with its reason, and never ends the build. A `question` field of JSON lines is not read: an index that
holds the questions would only be able to find itself.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from markdown_it import MarkdownIt
from msgspec import Struct
from selectolax.lexbor import LexborHTMLParser

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_LINE_CHARS = 4 * 1024 * 1024
PASSAGE_CHARS = 1600
"""Longer texts are cut at paragraphs into passages of about this many characters."""

_TITLE_FIELDS = ("title", "focus", "name")
_TEXT_FIELDS = ("answer", "text", "content", "body")
_SLUG = re.compile(r"[^\w\- ]+")
_HEADINGS = {"h1", "h2", "h3", "h4", "h5", "h6"}


class Text(Struct, frozen=True, kw_only=True):
    """One passage of a document. `url` is absolute, or a path relative to the corpus; `document` is the title of the whole."""

    url: str
    title: str
    text: str
    document: str = ""
    publisher: str | None = None


class Skipped(Struct, frozen=True):
    """Something that could not be read, and why."""

    where: str
    why: str


Item = Text | Skipped


def read_file(path: Path, relative: str) -> Iterator[Item]:
    """The passages of one file."""
    reader = _reader_of(path)
    if reader is None:
        return
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            yield Skipped(relative, f"larger than {MAX_FILE_BYTES} bytes")
            return
        yield from reader(path, relative)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        yield Skipped(relative, f"{type(error).__name__}: {error}")


def is_readable(path: Path) -> bool:
    """Whether there is a reader for files of this name."""
    return _reader_of(path) is not None


def _reader_of(path: Path) -> Callable[[Path, str], Iterator[Item]] | None:
    name = path.name.lower()
    if name.endswith((".jsonl", ".jsonl.gz", ".ndjson")):
        return _read_jsonl
    return {
        ".md": _read_markdown,
        ".markdown": _read_markdown,
        ".html": _read_html,
        ".htm": _read_html,
        ".txt": _read_text,
    }.get(path.suffix.lower())


def _read_markdown(path: Path, relative: str) -> Iterator[Item]:
    """A passage for each section; its title is the document's and its own."""
    source = path.read_text(encoding="utf-8")
    lines = source.split("\n")
    tokens = MarkdownIt("commonmark").enable("table").parse(source)
    heads = [
        (token.map[0], token.map[1], tokens[i + 1].content.strip())
        for i, token in enumerate(tokens)
        if token.type == "heading_open" and token.map and token.level == 0
    ]
    document = heads[0][2] if heads else path.stem
    starts = [(0, 0, document), *heads]
    for (_, start, title), (end, _, _) in zip(starts, [*heads, (len(lines), 0, "")], strict=True):
        text = "\n".join(lines[start:end]).strip()
        anchored = relative if title == document else f"{relative}#{_slug(title)}"
        yield from _passages(anchored, title, text, document="" if title == document else document)


def _slug(title: str) -> str:
    return _SLUG.sub("", title.lower()).strip().replace(" ", "-")


def _read_html(path: Path, relative: str) -> Iterator[Item]:
    tree = LexborHTMLParser(path.read_bytes())
    title_node = tree.css_first("title") or tree.css_first("h1")
    title = title_node.text(strip=True) if title_node else path.stem
    for node in tree.css("script, style, noscript, nav, header, footer, template, svg"):
        node.decompose()
    body = tree.css_first("main") or tree.body
    if body is None:
        yield Skipped(relative, "no body")
        return
    blocks = [
        re.sub(r"\s+", " ", node.text(deep=True, separator=" ")).strip()
        for node in body.css("p, li, td, th, pre, dd, dt, blockquote, h1, h2, h3, h4")
        if not node.css_matches("li p, td p, blockquote p")
    ]
    text = "\n\n".join(filter(None, blocks)) or body.text(separator="\n", strip=True)
    yield from _passages(relative, title or path.stem, text)


def _read_text(path: Path, relative: str) -> Iterator[Item]:
    yield from _passages(relative, path.stem.replace("-", " ").replace("_", " "), path.read_text(encoding="utf-8"))


def _read_jsonl(path: Path, relative: str) -> Iterator[Item]:
    with _open(path) as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            where = f"{relative}:{number}"
            if len(line) > MAX_LINE_CHARS:
                yield Skipped(where, f"longer than {MAX_LINE_CHARS} characters")
                continue
            try:
                row: Any = json.loads(line)
            except ValueError as error:
                yield Skipped(where, f"no JSON: {error}")
                continue
            text = _first(row, _TEXT_FIELDS) if isinstance(row, dict) else None
            if text is None:
                yield Skipped(where, f"none of the fields {', '.join(_TEXT_FIELDS)}")
                continue
            url = row.get("url") if isinstance(row.get("url"), str) else f"{relative}#{number}"
            publisher = row.get("publisher") if isinstance(row.get("publisher"), str) else None
            yield from _passages(url, _first(row, _TITLE_FIELDS) or "", text, publisher=publisher)


def _open(path: Path) -> IO[str]:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rt", encoding="utf-8")
    return path.open(encoding="utf-8")


def _first(row: dict[str, Any], fields: tuple[str, ...]) -> str | None:
    return next((row[field] for field in fields if isinstance(row.get(field), str) and row[field].strip()), None)


def _passages(url: str, title: str, text: str, *, document: str = "", publisher: str | None = None) -> Iterator[Item]:
    """The text in pieces of about `PASSAGE_CHARS`, cut between paragraphs, else between words."""
    for piece in _cut(text.strip()):
        yield Text(url=url, title=title, text=piece, document=document, publisher=publisher)


def _cut(text: str) -> Iterator[str]:
    piece = ""
    for paragraph in re.split(r"\n\s*\n", text):
        if piece and len(piece) + len(paragraph) > PASSAGE_CHARS:
            yield piece
            piece = ""
        piece = f"{piece}\n\n{paragraph}".strip()
        while len(piece) > 2 * PASSAGE_CHARS:
            at = piece.rfind(". ", 0, PASSAGE_CHARS) + 1 or piece.rfind(" ", 0, PASSAGE_CHARS)
            at = at if at > 0 else PASSAGE_CHARS
            yield piece[:at].strip()
            piece = piece[at:].strip()
    if piece:
        yield piece
