"""Readers: files to passages. Markdown, HTML, plain text and JSON lines.

Pure but for reading the file. Must not know the database. Invariants: what cannot be read is reported with its reason and never ends the build; a passage's
length is bounded; a `question` field of JSON lines is not read, for an index that holds the questions would only be able to find itself.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import quote, urldefrag

import msgspec
from markdown_it import MarkdownIt
from markdown_it.token import Token
from msgspec import Struct
from selectolax.lexbor import LexborHTMLParser

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024
"""Larger files of Markdown, HTML or text are skipped; JSON lines are read line by line and have no limit but this one on each."""
MAX_LINE_BYTES = 4 * 1024 * 1024
PASSAGE_CHARS = 1600
"""Longer texts are cut at paragraphs into passages of about this many characters, and of at most twice as many."""

_TITLE_FIELDS = ("title", "focus", "name")
_TEXT_FIELDS = ("answer", "text", "content", "body")
_NO_SLUG = re.compile(r"[^\w\- ]+")
_FRONT_MATTER = re.compile(r"\A---\n(?:.*\n){0,200}?---\n")
_NOT_CONTENT = "script, style, noscript, template, svg, nav, header, footer, aside"
_BLOCKS = (
    "p, div, section, article, ul, ol, li, dl, dt, dd, table, tr, td, th, pre, blockquote, figure, figcaption, "
    "h1, h2, h3, h4, h5, h6, hr, br, form, details, summary"
)
_BREAK = "\x1e"


class Text(Struct, frozen=True, kw_only=True):
    """One passage of a document.

    `url` is absolute, or quoted and relative to the corpus, and has no fragment; `document` is the title of the whole, where
    that is not the passage's own.
    """

    url: str
    title: str
    text: str
    anchor: str = ""
    document: str = ""
    publisher: str | None = None


class Skipped(Struct, frozen=True):
    """Something that could not be read, and why."""

    where: str
    why: str


Item = Text | Skipped


def is_readable(path: Path) -> bool:
    """Whether there is a reader for files of this name."""
    return _reader_of(path) is not None


def read_file(path: Path, relative: str) -> Iterator[Item]:
    """The passages of one file, and what of it could not be read. `relative` is its path in the corpus."""
    reader = _reader_of(path)
    if reader is None:
        return
    empty = True
    try:
        for item in reader(path, relative):
            empty = False
            yield item
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, RecursionError) as error:
        yield Skipped(relative, f"{type(error).__name__}: {error}")
        return
    if empty:
        yield Skipped(relative, "no text in it")


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


def _content(path: Path) -> bytes:
    if path.stat().st_size > MAX_DOCUMENT_BYTES:
        raise OSError(f"larger than {MAX_DOCUMENT_BYTES} bytes")
    return path.read_bytes()


def _decoded(path: Path) -> str:
    """The text of a file with LF at the ends of lines and without a byte order mark."""
    return _content(path).decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")


def _words_of(path: Path) -> str:
    return re.sub(r"[-_\s]+", " ", path.stem).strip()


# --- Markdown


def _read_markdown(path: Path, relative: str) -> Iterator[Item]:
    """The passages of each section, with its heading as title and anchor. Code is text like any other."""
    source = _FRONT_MATTER.sub(lambda match: "\n" * match[0].count("\n"), _decoded(path))
    lines = source.split("\n")
    tokens = MarkdownIt("commonmark").enable("table").parse(source)
    heads = [
        (token.map[0], token.map[1], _plain(tokens[i + 1]))
        for i, token in enumerate(tokens)
        if token.type == "heading_open" and token.map and token.level == 0  # not those in quotations and lists
    ]
    document = heads[0][2] if heads else _words_of(path)
    starts = [(0, 0, document), *heads]
    ends = [start for start, _, _ in heads] + [len(lines)]
    seen: Counter[str] = Counter()
    for number, ((_, start, title), end) in enumerate(zip(starts, ends, strict=True)):
        anchor = _anchor(title, seen) if number else ""
        is_whole = number < 2  # before and behind the first heading, which is the document's title
        yield from _passages(
            relative_url(relative),
            title,
            "\n".join(lines[start:end]),
            anchor="" if is_whole else anchor,
            document="" if is_whole else document,
        )


def _plain(heading: Token) -> str:
    """A heading's words without its mark-up."""
    return "".join(child.content for child in heading.children or ()).strip() or heading.content.strip()


def _anchor(title: str, seen: Counter[str]) -> str:
    """The anchor of a heading by the rule of the well-known forges: the second of the same name ends in -1."""
    slug = _NO_SLUG.sub("", title.lower()).strip().replace(" ", "-")
    seen[slug] += 1
    return quote(slug if seen[slug] == 1 else f"{slug}-{seen[slug] - 1}")


# --- HTML and text


def _read_html(path: Path, relative: str) -> Iterator[Item]:
    """The text of the main part, or of the body; what surrounds it is dropped."""
    tree = LexborHTMLParser(_content(path))
    title_node = tree.css_first("title") or tree.css_first("h1")
    title = re.sub(r"\s+", " ", title_node.text()).strip() if title_node else ""
    main = tree.css_first("main") or tree.css_first("article") or tree.body
    if main is None:
        return
    for node in main.css(_NOT_CONTENT):
        node.decompose()
    for node in main.css(_BLOCKS):
        node.insert_before(_BREAK)
        node.insert_after(_BREAK)
    blocks = (re.sub(r"\s+", " ", block).strip() for block in main.text(deep=True, separator="").split(_BREAK))
    yield from _passages(relative_url(relative), title or _words_of(path), "\n\n".join(filter(None, blocks)))


def _read_text(path: Path, relative: str) -> Iterator[Item]:
    yield from _passages(relative_url(relative), _words_of(path), _decoded(path))


# --- JSON lines


def _read_jsonl(path: Path, relative: str) -> Iterator[Item]:
    """A document for each line; several lines may tell of the same URL."""
    with _open(path) as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            where = f"{relative}:{number}"
            if len(line) > MAX_LINE_BYTES:
                while line and not line.endswith(b"\n"):  # to the end of the line, a piece at a time
                    line = file.readline(MAX_LINE_BYTES)
                yield Skipped(where, f"longer than {MAX_LINE_BYTES} bytes")
            elif line.strip():
                yield from _read_line(line, where, f"{relative_url(relative)}?line={number}")


def _read_line(line: bytes, where: str, own_url: str) -> Iterator[Item]:
    try:
        row: Any = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        yield Skipped(where, f"no JSON: {error}")
        return
    text = _first(row, _TEXT_FIELDS) if isinstance(row, dict) else None
    if text is None:
        yield Skipped(where, f"none of the fields {', '.join(_TEXT_FIELDS)}")
        return
    url, anchor = urldefrag(_url(row.get("url")) or own_url)
    publisher = row.get("publisher")
    yield from _passages(
        url,
        _first(row, _TITLE_FIELDS) or "",
        text,
        anchor=anchor,
        publisher=publisher if isinstance(publisher, str) and publisher else None,
    )


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


def _first(row: dict[str, Any], fields: tuple[str, ...]) -> str | None:
    return next((row[field] for field in fields if isinstance(row.get(field), str) and row[field].strip()), None)


def _url(value: object) -> str | None:
    """An absolute URL of the web as it is, a path as relative; None for anything else, `javascript:` for one."""
    if not isinstance(value, str) or not (url := value.strip()):
        return None
    if re.match(r"https?://[^\s/]", url, re.IGNORECASE):
        return url
    return None if re.match(r"[a-z][a-z0-9+.-]*:", url, re.IGNORECASE) else relative_url(url.lstrip("/"))


def relative_url(path: str) -> str:
    """A path in the corpus as it stands in a URL."""
    return quote(path, safe="/-._~")


# --- cutting


def _passages(
    url: str, title: str, text: str, *, anchor: str = "", document: str = "", publisher: str | None = None
) -> Iterator[Item]:
    for piece in _cut(text.strip()):
        yield Text(url=url, title=title, text=piece, anchor=anchor, document=document, publisher=publisher)


def _cut(text: str) -> Iterator[str]:
    """Pieces of about `PASSAGE_CHARS`: cut between paragraphs, in a long paragraph behind a sentence, else between words, else anywhere."""
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
