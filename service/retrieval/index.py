"""The full-text index of one corpus: SQLite FTS5, ranked by BM25.

The face of this package: the service searches, and it or the command line refreshes. Must not know turns. Invariants: hits have distinct URLs; what answers
next to nothing of a query is no hit; a search never waits for a refresh.
"""

from __future__ import annotations

import json
import math
import sqlite3
import time
from pathlib import Path

from msgspec import Struct

from service.providers.port import Passage
from service.retrieval import database
from service.retrieval.errors import CorpusError, IndexUnavailable, RetrievalError
from service.retrieval.query import match_of, terms_of
from service.retrieval.readers import Skipped
from service.retrieval.refresh import Progress, refresh

__all__ = ["BuildReport", "CorpusError", "IndexStats", "IndexUnavailable", "KnowledgeIndex", "RetrievalError"]

MAX_HITS = 20
_CANDIDATES_PER_HIT = 20  # passages: one long document may own many of the best
_WEIGHED_PER_HIT = 2  # documents: where so many of the best answer next to nothing, the rest does too
_PASSAGES_PER_HIT = 2
_WEIGHTS = (4.0, 1.5, 1.0)  # of the section's title, the document's title, the text
MIN_SHARE = 0.2
"""A hit answers at least this share of the query, its words weighed by how rare they are; measured, long-winded questions about what the corpus does
know lie above it."""
MIN_SHARE_OF_ONE_WORD = 0.28
"""The same where a single word of the query is all that is found: one rare word of three is enough, one of four is not. Most questions about something
else meet the corpus in one word."""

_CANDIDATES = (
    "select words.rowid, passages.url, -bm25(words, ?, ?, ?) as score "
    "from words join passages on passages.passage_id = words.rowid where words match ? order by score desc limit ?"
)
_COUNT = "select count(*) from words where words match ?"
_MATCHING = "select rowid from words where words match ? and rowid in (select value from json_each(?))"
_PASSAGE = (
    "select passages.url, passages.anchor, passages.title, passages.document, passages.publisher, words.text "
    "from passages join words on words.rowid = passages.passage_id where passages.passage_id = ?"
)


class BuildReport(Struct, frozen=True, kw_only=True):
    """The index after a build or a refresh, and what it took.

    `changed` and `removed` count files; `skipped` holds the first of what could not be read (files, or lines of JSON), `skipped_count` how many.
    """

    files: int
    documents: int
    passages: int
    changed: int
    removed: int
    skipped: tuple[Skipped, ...]
    skipped_count: int
    seconds: float


class IndexStats(Struct, frozen=True, kw_only=True):
    """What is in the index. `corpus` is None before the first build; documents are distinct URLs."""

    corpus: Path | None
    files: int
    documents: int
    passages: int


class _Document(Struct):
    """A candidate: its passages, best first, and the score of the best."""

    score: float
    passage_ids: list[int]


class KnowledgeIndex:
    """The index of one corpus. Thread-safe.

    Documents without a URL of their own get one below `base_url`, when they are found.

    Raises:
        IndexUnavailable: the file cannot be used, or is a database of something else.
    """

    def __init__(self, path: Path, base_url: str, *, max_readers: int = database.MAX_READERS) -> None:
        self._path = path
        self._base_url = base_url.rstrip("/") + "/"
        database.prepare(path)
        self._readers = database.ReaderPool(path, max_readers)

    def search(self, query: str, limit: int = 5) -> tuple[Passage, ...]:
        """At most `limit` passages (and `MAX_HITS`) of distinct URLs, the best first; none where the corpus knows nothing of the query.

        Raises:
            IndexUnavailable: the index is closed, overloaded or damaged.
        """
        terms, limit = terms_of(query), min(limit, MAX_HITS)
        if not terms or limit < 1:
            return ()
        with self._readers.reading() as connection:
            rows = connection.execute(_CANDIDATES, (*_WEIGHTS, match_of(terms), limit * _CANDIDATES_PER_HIT)).fetchall()
            documents: dict[str, _Document] = {}
            for passage_id, url, score in rows:
                documents.setdefault(url, _Document(score, [])).passage_ids.append(passage_id)
            best = list(documents.values())[: limit * _WEIGHED_PER_HIT]
            relevant = _relevant(connection, terms, [document.passage_ids[0] for document in best])
            hits = [document for document in best if document.passage_ids[0] in relevant]
            return tuple(self._passage(connection, hit) for hit in hits[:limit])

    def _passage(self, connection: sqlite3.Connection, hit: _Document) -> Passage:
        """The best passage of a document, with the next best of the same document behind it."""
        rows = [connection.execute(_PASSAGE, (passage_id,)).fetchone() for passage_id in hit.passage_ids[:_PASSAGES_PER_HIT]]
        url, anchor, title, document, publisher, _ = rows[0]
        return Passage(
            url=(url if "://" in url else self._base_url + url) + (f"#{anchor}" if anchor else ""),
            title=f"{document}: {title}" if document else title,
            text="\n\n".join(row[5] for row in rows),
            publisher=publisher,
            score=round(hit.score, 4),
        )

    def build(self, corpus: Path, progress: Progress | None = None) -> BuildReport:
        """Builds the index anew from a folder or a file. A search meanwhile is answered from the old one.

        Raises:
            CorpusError: there is no such corpus, or nothing in it can be read.
            IndexUnavailable: the file cannot be written, or another writer did not end in time.
        """
        return self._refresh(corpus, progress, anew=True)

    def refresh(self, corpus: Path, progress: Progress | None = None) -> BuildReport:
        """Brings the index up to date: as `build`, but reads only files that are new or changed, and drops those that are gone."""
        return self._refresh(corpus, progress, anew=False)

    def _refresh(self, corpus: Path, progress: Progress | None, *, anew: bool) -> BuildReport:
        start = time.monotonic()
        with database.writing(self._path) as connection:
            changes = refresh(connection, corpus, progress, anew=anew)
            stats = _stats(connection)
        return BuildReport(
            files=stats.files,
            documents=stats.documents,
            passages=stats.passages,
            changed=changes.changed,
            removed=changes.removed,
            skipped=tuple(changes.skipped),
            skipped_count=changes.skipped_count,
            seconds=time.monotonic() - start,
        )

    def stats(self) -> IndexStats:
        """What is in the index now.

        Raises:
            IndexUnavailable: the index is closed, overloaded or damaged.
        """
        with self._readers.reading() as connection:
            return _stats(connection)

    def close(self) -> None:
        """Closes the connections; a search in progress still ends. Idempotent."""
        self._readers.close()


def _stats(connection: sqlite3.Connection) -> IndexStats:
    corpus = connection.execute("select value from meta where key = 'corpus'").fetchone()
    files = connection.execute("select count(*) from files").fetchone()[0]
    documents, passages = connection.execute("select count(distinct url), count(*) from passages").fetchone()
    return IndexStats(corpus=Path(corpus[0]) if corpus else None, files=files, documents=documents, passages=passages)


def _relevant(connection: sqlite3.Connection, terms: tuple[str, ...], passage_ids: list[int]) -> set[int]:
    """Which passages answer enough of the query.

    A word weighs its inverse document frequency, as BM25 has it: log(1 + (N - n + 0.5) / (n + 0.5)); one that the corpus lacks weighs most.
    """
    total = connection.execute("select count(*) from passages").fetchone()[0]
    weights: dict[int, list[float]] = {passage_id: [] for passage_id in passage_ids}
    asked = 0.0
    for term in terms:
        phrase = match_of((term,))
        found = connection.execute(_COUNT, (phrase,)).fetchone()[0]
        weight = math.log(1 + (total - found + 0.5) / (found + 0.5))
        asked += weight
        for (passage_id,) in connection.execute(_MATCHING, (phrase, json.dumps(passage_ids))) if found else ():
            weights[passage_id].append(weight)

    def floor(words: int) -> float:
        return MIN_SHARE_OF_ONE_WORD if words == 1 else MIN_SHARE

    return {passage_id for passage_id, found_here in weights.items() if sum(found_here) >= floor(len(found_here)) * asked}
