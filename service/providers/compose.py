"""Composes an answer from passages, sentence by sentence: extraction, no invention.

Pure. Sentences are taken whole from the passages' prose (tables, code, headings and flattened lists are left out), scored by the
question's words, and put in a readable order: the best source first, in its own order, then what other sources add.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from service.providers.port import Passage

MAX_SENTENCES = 60
MAX_PASSAGES = 10
_MIN_CHARS, _MAX_CHARS = 25, 420

_STOP = frozenset(
    "a about after all also an and any are as at be because been before being between both but by can cannot could did do does doing down during each few for "
    "from further had has have having he her here hers him his how i if in into is it its just me might more most must my no nor not now of off on once only or other our "
    "out over own please same she should so some such tell than that the their them then there these they this those through to too under until up us use used using "
    "very was we were what when where which while who whom why will with would you your information know explain show give get mean means".split()
)
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_'-]*|\d+(?:\.\d+)?")
_FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$|^(```|~~~).*\Z", re.MULTILINE | re.DOTALL)
_SKIPPED_LINE = re.compile(r"^\s*(\||#{1,6}\s|[-=*_]{3,}\s*$|<[^>]+>\s*$|\{|\})")
_LIST_MARK = re.compile(r"^\s*(?:[-*+•]|\d{1,2}[.)])\s+")
_LINK = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")
_END = re.compile(r"(?<=[.!?])[\"')\]*_]*\s+(?=(?:[-*•–]\s+)?[\"'(\[*_`]*[A-Z0-9])")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|Dr|Mr|Mrs|Ms|St|No|Fig|cf|approx|al|U\.S)\.$")


_LABEL = re.compile(r"^(?:Summary|Overview|Note|Answer)\s?:\s+")
_GLUED_HEADING = re.compile(
    r"^(?:[A-Z][\w-]*\s+){1,6}(?=(?:The|An|In|With|If|When|There|This|These|Many|Most|Some|Because|For|Although)\s+[a-z])"
)
"""Texts that lost their line breaks have headings run into sentences: `Acute Pneumonitis With acute disease, symptoms occur`.
`A` is missing on purpose: vitamin A is no heading."""
_LIST_REST = re.compile(r"^[-*•–]\s|:\s[-*•–]\s|\s[*•]\s|\s\*\w|\s[-–]\s.*\s[-–]\s")
"""What lists leave behind where they were flattened into prose: no sentence."""
_RAW_URL = re.compile(r"(?<!`)\b(?:https?://|www\.)\S")
_LEANS_BACK = re.compile(
    r"(?:It|They|He|She|This|These|Those|That|Such|Its|Their|Both|Then|Also|However|Therefore|Thus|So|But|And|Or|Nor)\b"
)
"""Sentences that begin so mean the one before them."""
_MIN_SHARE = 0.3
"""Behind the first few, a sentence must score at least this share of the best: less has hardly to do with the question."""
_ALWAYS = 3


class Sentence(Struct, frozen=True):
    """One sentence of an answer and the index of the passage that it was taken from."""

    text: str
    passage: int


def stem(word: str) -> str:
    """A crude stem, enough to match singular with plural and a verb with its forms."""
    word = word.lower().removesuffix("'s")
    for ending in ("ations", "ation", "ings", "ing", "ies", "ied", "ed", "es", "s", "ly"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word[: -len(ending)]
    return word.removesuffix("e") if len(word) > 4 else word


def content_words(text: str) -> list[str]:
    """The words that say what a text is about, in order, without repetition."""
    words = (match[0] for match in _WORD.finditer(text))
    return list(dict.fromkeys(word for word in words if word.lower() not in _STOP and len(word) > 1))


def sentences_of(text: str) -> list[str]:
    """The whole sentences of a passage's prose, without Markdown's marks."""
    return [piece for piece in _pieces_of(text) if _is_sentence(piece)]


def _pieces_of(text: str) -> list[str]:
    """A passage's prose in pieces, whole sentences or not, in their order."""
    found: list[str] = []
    for block in re.split(r"\n\s*\n", _FENCE.sub("\n\n", text)):
        paragraph: list[str] = []
        for line in block.split("\n"):
            if _SKIPPED_LINE.match(line):
                continue
            if _LIST_MARK.match(line):
                found += _split(" ".join(paragraph))
                paragraph = []
            paragraph.append(_LIST_MARK.sub("", line.strip()))
        found += _split(" ".join(paragraph))
    return found


def _split(paragraph: str) -> list[str]:
    text = re.sub(r"\s+", " ", _LINK.sub(r"\1", paragraph).replace("**", "")).strip()
    pieces: list[str] = []
    for piece in _END.split(text):
        if pieces and _ABBREVIATION.search(pieces[-1]):
            pieces[-1] += " " + piece
        else:
            pieces.append(piece)
    return [_GLUED_HEADING.sub("", _LABEL.sub("", piece)) for piece in pieces]


def _is_sentence(piece: str) -> bool:
    """Whether it can stand in an answer: of a sound length, finished, with nothing open and nothing left of a list."""
    return (
        _MIN_CHARS <= len(piece) <= _MAX_CHARS
        and piece[-1] in ".!?"
        and piece.count("`") % 2 == 0
        and piece.count("(") == piece.count(")")
        and not _LIST_REST.search(piece)
        and not _RAW_URL.search(piece)
    )


def compose(question: str, passages: Sequence[Passage], *, sentences: int, chars: int | None = None) -> list[list[Sentence]]:
    """Paragraphs of sentences that answer the question; empty where no sentence has anything to do with it.

    Args:
        question: what was asked; only its content words count.
        passages: the evidence, best first.
        sentences: how many sentences at most, where `chars` does not say otherwise.
        chars: a length to aim at, in characters.
    """
    asked = {stem(word) for word in content_words(question)}
    candidates = _candidates(passages, asked)
    if not candidates:
        return []
    limit = MAX_SENTENCES if chars is not None else min(sentences, MAX_SENTENCES)
    ranked = sorted(candidates, key=lambda item: (-item[0], item[1], item[2]))
    chosen = _choose(ranked, limit, chars) or [ranked[0][1:]]
    lead = chosen[0][0]
    order = sorted({passage for passage, _, _ in chosen}, key=lambda passage: (passage != lead, passage))
    return [[Sentence(text, p) for p, _, text in sorted(chosen) if p == passage] for passage in order]


def _choose(ranked: Sequence[tuple[float, int, int, str]], limit: int, chars: int | None) -> list[tuple[int, int, str]]:
    """The best sentences, none twice, none without the one that it leans on."""
    chosen: list[tuple[int, int, str]] = []
    length = 0
    for score, passage, position, text in ranked:
        if len(chosen) >= limit or (chars is not None and length >= chars):
            break
        if chars is None and len(chosen) >= _ALWAYS and score < _MIN_SHARE * ranked[0][0]:
            break  # they are ranked: what follows is no better
        leans = _LEANS_BACK.match(text) and not any((p, at) == (passage, position - 1) for p, at, _ in chosen)
        if not leans and not any(_alike(text, other) for _, _, other in chosen):
            chosen.append((passage, position, text))
            length += len(text)
    return chosen


def _candidates(passages: Sequence[Passage], asked: set[str]) -> list[tuple[float, int, int, str]]:
    """Every sentence with its score, passage, position and text."""
    rows: list[tuple[int, int, str, set[str]]] = []
    for number, passage in enumerate(passages[:MAX_PASSAGES]):
        title = {stem(word) for word in content_words(passage.title)} & asked
        for position, text in enumerate(_pieces_of(passage.text)):  # pieces count, or neighbours could not be told
            if not _is_sentence(text):
                continue
            rows.append((number, position, text, {stem(word) for word in content_words(text)} | title))
    seen = Counter(word for _, _, _, words in rows for word in words & asked)
    weight = {word: math.log(1 + len(rows) / count) for word, count in seen.items()}
    scored: list[tuple[float, int, int, str]] = []
    for number, position, text, words in rows:
        overlap = sum(weight[word] for word in words & asked)
        if overlap > 0:
            # Better passages first, and the beginning of a passage before its end: that is where texts say what they are about.
            scored.append((overlap / (1 + 0.15 * number) / (1 + 0.04 * position), number, position, text))
    return scored


def _alike(text: str, other: str) -> bool:
    """Whether two sentences say nearly the same."""
    one, two = set(content_words(text.lower())), set(content_words(other.lower()))
    return bool(one and two) and len(one & two) / min(len(one), len(two)) > 0.8
