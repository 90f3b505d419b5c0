"""The cleaner: what a person reads."""

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.turn import answer
from service.turn.answer import Cleaner, clean

ALPHABET = " \n\t[]1,2【†】`a(-b\u00a0\ud83d\ude00"


PIECES = st.text(alphabet=ALPHABET, max_size=8) | st.text(alphabet="ab ", max_size=8)  # the second kind is mostly plain


@given(st.lists(PIECES, max_size=12), st.sampled_from([0, 1, 256]))
def test_cleaner_pieces_join_to_the_whole(pieces, long_space):
    """However a text is cut, the cleaned pieces join to the cleaned whole; white space that waits in pieces of its own, too."""
    whole = clean("".join(pieces))
    with patch.object(answer, "_LONG_SPACE", long_space):
        cleaner = Cleaner()
        assert "".join(cleaner.feed(piece) for piece in pieces) + cleaner.finish() == whole


@given(st.lists(PIECES, max_size=12))
def test_plain_pieces_are_cleaned_like_all_others(pieces):
    """The short way for plain pieces shows at every piece what the long way shows."""
    short, long = Cleaner(), Cleaner()
    for piece in pieces:
        assert short.feed(piece) == long._run(long._held + piece, final=False)
        assert vars(short) == vars(long)


@given(st.text(alphabet=ALPHABET, max_size=60))
def test_cleaner_shows_no_space_at_the_ends(text):
    """The answer neither begins nor ends with white space."""
    assert clean(text) == clean(text).strip(" \n\t\u00a0")


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("Whole answers [1] matter [2][3].", "Whole answers matter."),
        ("Two at once [1, 2] and a range [3-5].", "Two at once and a range."),
        ("An artefact【4†source】 here.", "An artefact here."),
        ("A [1](https://example.org/a) link stays.", "A [1](https://example.org/a) link stays."),
        ("Code keeps `a[1]  b` as it is.", "Code keeps `a[1]  b` as it is."),
        ("```\nx = a[1]\n\n\n\ny\n```", "```\nx = a[1]\n\n\n\ny\n```"),
        ("Too   many\u00a0 blanks.", "Too many blanks."),
        ("One.\n\n\n\nTwo.", "One.\n\nTwo."),
        ("- a\n  - b [1]\n", "- a\n  - b"),
        ("An [open bracket", "An [open bracket"),
        ("A set [12", "A set [12"),
        ("", ""),
    ],
)
def test_clean_of_known_texts(raw, cleaned):
    """Markers and doubled blanks go; links, code and lists stay."""
    assert clean(raw) == cleaned


def test_cleaner_holds_back_only_what_it_cannot_judge():
    """Plain words are shown at once; an open marker and trailing blanks wait."""
    cleaner = Cleaner()
    assert cleaner.feed("Hello ") == "Hello"
    assert cleaner.feed("world [") == " world"
    assert cleaner.feed("1") == ""
    assert cleaner.feed("]. ") == "."
    assert cleaner.finish() == ""


def test_cleaner_joins_a_surrogate_pair_split_over_two_pieces():
    """Half a character is never shown alone."""
    cleaner = Cleaner()
    assert cleaner.feed("a\ud83d") == "a"
    assert cleaner.feed("\ude00").encode("utf-16-le", "surrogatepass").decode("utf-16-le") == "😀"
