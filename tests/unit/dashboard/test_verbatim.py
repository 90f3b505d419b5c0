from __future__ import annotations

import base64
from html.parser import HTMLParser
from typing import cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dashboard import verbatim
from dashboard.verbatim import Json

NASTY = "<script>alert(1)</script>\"'&amp;"


class Reader(HTMLParser):
    """What a browser makes of a piece: its words, its tags, and how many of them are still open."""

    def __init__(self, body: str) -> None:
        super().__init__(convert_charrefs=True)
        self.words = ""
        self.tags: list[str] = []
        self.attributes: dict[str, str | None] = {}
        self.open: list[str] = []
        self.feed(body)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= dict(attrs)
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(values)
@settings(max_examples=200)
def test_every_name_and_value_of_a_record_is_shown_and_none_is_markup(value: Json) -> None:
    """The tree closes what it opens, holds each leaf as JSON, and has no tag of a stored text's making."""
    read = Reader(verbatim.json_text(msgspec.json.encode(value).decode()))
    assert read.open == []
    assert set(read.tags) <= {"div", "details", "summary", "span"}
    for leaf in leaves(value):
        assert leaf in read.words


def leaves(value: Json) -> list[str]:
    match value:
        case dict() if value:
            return [*value, *(leaf for each in value.values() for leaf in leaves(each))]
        case list() if value:
            return [leaf for each in value for leaf in leaves(each)]
        case _:
            return [msgspec.json.encode(value).decode()]


def test_only_the_top_of_a_tree_is_open() -> None:
    """A record's own fields are seen at once; what is nested says how much it holds."""
    body = verbatim.json_text('{"route": "knowledge", "usage": {"inputTokens": 3, "outputTokens": 4}}')
    assert body.count("<details open>") == 1
    assert body.count("<details>") == 1
    assert "{<span> 2 }</span>" in body


@pytest.mark.parametrize("depth", [31, 32, 40, 900, 5000])
def test_what_is_nested_deeper_than_any_record_is_shown_as_text(depth: int) -> None:
    """Depth is bounded whatever was stored, and nothing is left out."""
    text = "[" * depth + '"the bottom"' + "]" * depth
    read = Reader(verbatim.json_text(text))
    assert read.tags.count("details") == (31 if depth == 31 else 0)
    assert '"the bottom"' in read.words
    assert depth == 31 or read.words == text


def test_a_record_of_very_many_values_is_the_beginning_of_its_text() -> None:
    """A browser would take seconds for a tree of them; how much there is is said."""
    text = msgspec.json.encode([NASTY] * 2000).decode()
    read = Reader(verbatim.json_text(text))
    assert read.tags == ["div", "pre"]
    assert read.words.startswith(text[:20_000])
    assert f"{len(text):,} characters" in read.words
    assert "details" in Reader(verbatim.json_text(msgspec.json.encode([NASTY] * 1999).decode())).tags


def test_a_saved_file_is_the_bytes_that_were_given() -> None:
    """The link holds the file: nothing is asked of the server when it is clicked."""
    read = Reader(verbatim.saved("Save it", f"{NASTY}.json", b'{"a": 1}', "application/json"))
    kind, _, data = cast("str", read.attributes["href"]).partition(",")
    assert (kind, base64.b64decode(data)) == ("data:application/json;base64", b'{"a": 1}')
    assert read.attributes["download"] == f"{NASTY}.json"


def test_code_is_what_was_given_and_can_be_copied() -> None:
    """Also where it looks like markup."""
    read = Reader(verbatim.code(f"SELECT {NASTY}\nFROM turns"))
    assert read.words == f"CopySELECT {NASTY}\nFROM turns"
    assert "data-copy" in read.attributes
    assert set(read.tags) == {"div", "button", "pre", "code"}
