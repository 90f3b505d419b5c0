"""What a person typed, as the few words that a search is made of.

Pure. Must not know the database. Invariant: nothing of the query's punctuation comes through, so that no text is ever read as FTS5's own syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_TERMS = 32
MAX_QUERY_CHARS = 2000

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_ENDINGS = frozenset("d ll m re s ve".split())
"""What stands behind an apostrophe without being a word."""
_STOP = frozenset(
    """
    a about am an and any are as at be been but by can could did do does for from had has have he her him his how i if in into is it its let
    me my no not of on or our please shall she should so some than that the their them then there these they this those to us was we were
    what when where which who whom whose why will with would you your tell explain describe
    arent cant couldnt didnt doesnt dont hadnt hasnt havent isnt shouldnt wasnt werent wont wouldnt
    """.split()
)
"""Words that ask rather than tell. English, as the stemmer is; words of other languages are weighed by how rare they are."""


def terms_of(query: str) -> tuple[str, ...]:
    """The distinct words of a query that tell something, in lower case, at most `MAX_TERMS`; none where all are stop words."""
    words = (word for match in _WORD.finditer(query[:MAX_QUERY_CHARS].lower()) for word in _parts(match[0]))
    return tuple(dict.fromkeys(word for word in words if word not in _STOP))[:MAX_TERMS]


def match_of(terms: tuple[str, ...]) -> str:
    """The FTS5 expression that any of the terms satisfies. The terms are words of `terms_of`: none holds a quotation mark."""
    return " OR ".join(f'"{term}"' for term in terms)


def _parts(word: str) -> Iterator[str]:
    """`alzheimer's` is alzheimer, `don't` is dont, `o'brien` is two words."""
    first, *rest = re.split("['’]", word)
    if rest == ["t"]:
        yield first + "t"
        return
    yield first
    yield from (part for part in rest if part not in _ENDINGS)
