"""Files to passages."""

import gzip
import json
import os

import pytest

from service.retrieval import readers
from service.retrieval.readers import Skipped, Text, is_readable, read_file

MARKDOWN = """\
---
title: not a heading
---
# The *turn* contract

What a turn is.

## States & stages

See `Stage`.

```python
def first_token(): ...
```

> ## quoted heading

## Limits

| a | b |
|---|---|
| 1 | 2 |

## Limits

Again.

## Nothing below
"""

HTML = """<!doctype html><html><head><title> A page
of ours</title><style>.x{color:red}</style></head><body><nav>Menu</nav><main><h1>Heading</h1>bare <b>bold</b> words
<div>in a div<p>in a paragraph</p></div><ul><li>one<li>two</ul><script>alert("no")</script></main><footer>Imprint</footer></body></html>"""


def read(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_file(path, name))


def texts(items):
    return [item.text for item in items if isinstance(item, Text)]


def test_markdown_gives_a_passage_for_each_section_with_its_anchor(tmp_path):
    """Titles without mark-up, anchors as forges make them, no heading out of a quotation, nothing for an empty section."""
    items = read(tmp_path, "guide to/turn.md".replace("/", "-"), MARKDOWN)
    assert [(item.url, item.anchor, item.title, item.document) for item in items] == [
        ("guide%20to-turn.md", "", "The turn contract", ""),
        ("guide%20to-turn.md", "states--stages", "States & stages", "The turn contract"),
        ("guide%20to-turn.md", "limits", "Limits", "The turn contract"),
        ("guide%20to-turn.md", "limits-1", "Limits", "The turn contract"),
    ]


def test_markdown_code_and_tables_are_text(tmp_path):
    """What stands in a fence or a table can be found; front matter can not."""
    found = "\n".join(texts(read(tmp_path, "a.md", MARKDOWN)))
    assert "def first_token(): ..." in found
    assert "| 1 | 2 |" in found
    assert "not a heading" not in found


def test_markdown_without_a_heading_is_named_after_its_file(tmp_path):
    """A note without title, with Windows ends of lines and a byte order mark, is a passage all the same."""
    (item,) = read(tmp_path, "read-me_first.md", b"\xef\xbb\xbfone\r\ntwo\r\n")
    assert (item.title, item.text) == ("read me first", "one\ntwo")


def test_html_gives_the_text_of_its_main_part(tmp_path):
    """Words outside paragraphs count, each block once; scripts, styles and what surrounds the content do not."""
    (item,) = read(tmp_path, "page.html", HTML)
    assert item.title == "A page of ours"
    assert item.text.split("\n\n") == ["Heading", "bare bold words", "in a div", "in a paragraph", "one", "two"]


def test_html_without_body_or_title_is_read(tmp_path):
    """A fragment is named after its file."""
    (item,) = read(tmp_path, "some-part.htm", "<p>only this")
    assert (item.title, item.text) == ("some part", "only this")


def test_jsonl_takes_title_text_url_and_publisher_and_leaves_the_question(tmp_path):
    """The field that a benchmark asks with is never read."""
    row = {"id": "7", "url": "https://a.example/x#part", "publisher": "P", "focus": "F", "question": "secret?", "answer": "A."}
    (item,) = read(tmp_path, "d.jsonl", json.dumps(row))
    assert item == Text(url="https://a.example/x", anchor="part", title="F", text="A.", publisher="P")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://a.example", "http://a.example"),
        ("guide/a b.html", "guide/a%20b.html"),
        ("/guide/a.html", "guide/a.html"),
        ("javascript:alert(1)", "d.jsonl?line=1"),
        ("https://", "d.jsonl?line=1"),
        ("", "d.jsonl?line=1"),
        (7, "d.jsonl?line=1"),
        (None, "d.jsonl?line=1"),
    ],
)
def test_jsonl_url_is_of_the_web_or_relative(tmp_path, url, expected):
    """What is no address of a page is replaced by the line's own, so that nothing else ever becomes a source."""
    (item,) = read(tmp_path, "d.jsonl", json.dumps({"url": url, "text": "x"}))
    assert item.url == expected


def test_jsonl_reports_bad_lines_and_reads_on(tmp_path, monkeypatch):
    """Each line that cannot be read is named with its reason; the others are read."""
    monkeypatch.setattr(readers, "MAX_LINE_BYTES", 100)
    lines = [
        b'{"text": "one"}',
        b"{",
        b'{"title": "no text"}',
        b"[1]",
        b"",
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b'{"text": "' + b"x" * 250 + b'"}',
        b"[" * 99,
        b'{"text": "two"}',
    ]
    items = read(tmp_path, "d.jsonl", b"\n".join(lines))
    assert texts(items) == ["one", "two"]
    skipped = [item for item in items if isinstance(item, Skipped)]
    assert [item.where for item in skipped] == [f"d.jsonl:{n}" for n in (2, 3, 4, 6, 7, 8, 9)]
    assert "longer than 100 bytes" in skipped[5].why


def test_jsonl_deeper_than_can_be_read_is_reported(tmp_path):
    """A line that nests without end is skipped, and does not end the build."""
    items = read(tmp_path, "d.jsonl", b"[" * 200_000 + b'\n{"text": "two"}')
    assert texts(items) == ["two"]
    assert isinstance(items[0], Skipped)


def test_gzip_that_breaks_off_keeps_what_was_read(tmp_path):
    """Lines before the damage are passages; the damage is reported."""
    packed = gzip.compress(b"".join(b'{"text": "line %d"}\n' % n for n in range(50_000)))
    items = read(tmp_path, "d.jsonl.gz", packed[: len(packed) // 2])
    assert texts(items)[0] == "line 0"
    assert [item.why.split(":")[0] for item in items if isinstance(item, Skipped)] == ["EOFError"]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.md", b"\xff\xfe\x00", "UnicodeDecodeError"),
        ("a.md", b" \n", "no text"),
        ("a.html", b"<nav>Menu</nav>", "no text"),
        ("a.jsonl", b"\n\n", "no text"),
        ("a.jsonl.gz", b"no gzip", "BadGzipFile"),
        ("a.txt", b"x" * 101, "larger than 100 bytes"),
    ],
)
def test_file_that_cannot_be_read_is_reported(tmp_path, monkeypatch, name, content, why):
    """Whatever is wrong with a whole file is one line of the report."""
    monkeypatch.setattr(readers, "MAX_DOCUMENT_BYTES", 100)
    (item,) = read(tmp_path, name, content)
    assert item.where == name
    assert why in item.why


@pytest.mark.parametrize("name", ["a.pdf", "a", "a.json", "a.gz", "md"])
def test_other_files_are_none_of_ours(tmp_path, name):
    """There is no reader for them, and nothing to report."""
    (tmp_path / name).write_text("x")
    assert not is_readable(tmp_path / name)
    assert list(read_file(tmp_path / name, name)) == []


@pytest.mark.parametrize("separator", ["\n\n", ". ", " ", ""])
def test_passages_are_bounded_and_lose_nothing(tmp_path, separator):
    """Whatever a text offers to be cut at, passages have a bounded length and together are the text."""
    words = separator.join(f"w{n:05d}" for n in range(3000))
    pieces = texts(read(tmp_path, "a.txt", words))
    assert max(map(len, pieces)) <= 2 * readers.PASSAGE_CHARS
    assert "".join("".join(pieces).split()) == "".join(words.split())


def test_unreadable_file_is_reported(tmp_path):
    """A file that may not be opened is one line of the report."""
    path = tmp_path / "a.md"
    path.symlink_to(tmp_path / "gone.md")
    (item,) = read_file(path, "a.md")
    assert os.strerror(2) in item.why
