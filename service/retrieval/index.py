"""The full-text index: SQLite FTS5 with BM25, one file, built and refreshed in transactions.

Owns the file. Readers in other threads and processes go on reading the old state until a refresh is committed. A query is a bag of words: nothing of FTS5's own
syntax comes through. Hits are collapsed to one per URL.
"""

from __future__ import annotations

import hashlib
import queue
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from msgspec import Struct

from service.providers.port import Passage
from service.retrieval.readers import Skipped, Text, is_readable, read_file

MAX_TERMS = 32
MAX_QUERY_CHARS = 2000
MAX_READERS = 16
"""Connections that read at a time, over all threads."""
MAX_FILES = 100_000
MAX_SKIPPED_KEPT = 50
_CANDIDATES_PER_HIT = 8
_PASSAGES_PER_HIT = 2
_WEIGHTS = (4.0, 1.5, 1.0)  # of the title, the document's title, the text
_VERSION = 1

_WORD = re.compile(r"\w+", re.UNICODE)
_STOP = frozenset(
    "a about an and any are as at be been but by can could did do does for from had has have how i if in into is it its me my no not of on or our should so some "
    "than that the their them there these they this those to was we were what when where which who whom why will with would you your".split()
)
_SCHEMA = """
create table if not exists meta (key text primary key, value text not null);
create table if not exists files (file_id integer primary key, path text not null unique, fingerprint text not null, passages integer not null);
create table if not exists passages (passage_id integer primary key, file_id integer not null, url text not null, title text not null, document text not null, publisher text);
create index if not exists ix_passages_file on passages (file_id);
create virtual table if not exists words using fts5 (title, document, text, tokenize = 'porter unicode61 remove_diacritics 2');
"""

_QUERY = (
    "select p.url, p.title, p.document, p.publisher, w.text, -bm25(words, ?, ?, ?) as score "
    "from words w join passages p on p.passage_id = w.rowid where words match ? order by score desc limit ?"
)

Progress = Callable[[int, int], None]
"""Called with the number of files read so far and their total."""


class IndexReport(Struct, frozen=True, kw_only=True):
    """What a build or a refresh did. `skipped` holds the first of what could not be read, `skipped_count` how many."""

    files: int
    changed: int
    removed: int
    passages: int
    skipped: tuple[Skipped, ...]
    skipped_count: int
    seconds: float


class CorpusError(Exception):
    """The index or the corpus cannot be used. The message says why."""


class KnowledgeIndex:
    """The index of one corpus. Thread-safe."""

    def __init__(self, path: Path, base_url: str) -> None:
        self._path = path
        self._base_url = base_url.rstrip("/") + "/"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._idle: queue.LifoQueue[sqlite3.Connection | None] = queue.LifoQueue()
        for _ in range(MAX_READERS):
            self._idle.put(None)  # a place for a connection that is opened when it is first needed
        with self._writer() as connection:
            version = connection.execute("pragma user_version").fetchone()[0]
            if version not in (0, _VERSION):
                raise CorpusError(f"{path} was made by another version; remove it and build the index again")
            connection.executescript(_SCHEMA)
            connection.execute(f"pragma user_version = {_VERSION}")

    @contextmanager
    def _writer(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None)
        try:
            connection.execute("pragma journal_mode = wal")
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        connection = self._idle.get()
        try:
            if connection is None:
                connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
                connection.execute("pragma query_only = on")
            yield connection
        finally:
            self._idle.put(connection)

    def search(self, query: str, limit: int = 5) -> tuple[Passage, ...]:
        """At most `limit` passages of distinct URLs, the best first; none where no word of the query is in the index."""
        terms = _terms(query)
        if not terms or limit < 1:
            return ()
        match = " OR ".join(f'"{term}"' for term in terms)
        with self._reader() as connection:
            rows = connection.execute(_QUERY, (*_WEIGHTS, match, limit * _CANDIDATES_PER_HIT)).fetchall()
        best: dict[str, list[Any]] = {}
        for row in rows:
            best.setdefault(row[0].partition("#")[0], []).append(row)
        return tuple(self._passage(hits) for hits in list(best.values())[:limit])

    def _passage(self, hits: list[Any]) -> Passage:
        """The best passage of a document, with the next best of the same document behind it."""
        url, title, document, publisher, text, score = hits[0]
        named = f"{document}: {title}" if document else title
        text = "\n\n".join([text, *(hit[4] for hit in hits[1:_PASSAGES_PER_HIT])])
        return Passage(url=self._absolute(url), title=named, text=text, publisher=publisher, score=round(score, 4))

    def _absolute(self, url: str) -> str:
        return url if "://" in url else self._base_url + quote(url, safe="/#-._~")

    def corpus(self) -> Path | None:
        """The folder or file that the index was built from."""
        with self._reader() as connection:
            row = connection.execute("select value from meta where key = 'corpus'").fetchone()
        return Path(row[0]) if row else None

    def count(self) -> tuple[int, int]:
        """Files and passages in the index."""
        with self._reader() as connection:
            files, passages = connection.execute("select count(*), coalesce(sum(passages), 0) from files").fetchone()
        return files, passages

    def refresh(self, corpus: Path, progress: Progress | None = None) -> IndexReport:
        """Brings the index up to date with a folder or a file: reads what is new or changed, drops what is gone, in one transaction.

        Raises:
            CorpusError: there is no such corpus, or nothing in it can be read.
        """
        start = time.monotonic()
        found = _files_of(corpus)
        skipped: list[Skipped] = []
        skipped_count = changed = 0
        with self._writer() as connection:
            connection.execute("begin immediate")
            known = dict(connection.execute("select path, fingerprint from files").fetchall())
            for number, (relative, path) in enumerate(sorted(found.items()), 1):
                fingerprint = _fingerprint(path)
                if known.pop(relative, None) != fingerprint:
                    changed += 1
                    for item in _store_file(connection, relative, path, fingerprint):
                        skipped_count += 1
                        if len(skipped) < MAX_SKIPPED_KEPT:
                            skipped.append(item)
                if progress is not None:
                    progress(number, len(found))
            for relative in known:
                _drop_file(connection, relative)
            connection.execute("insert or replace into meta values ('corpus', ?)", (str(corpus.absolute()),))
            if changed or known:
                connection.execute("insert into words(words) values ('optimize')")
            connection.execute("commit")
        files, passages = self.count()
        return IndexReport(
            files=files,
            changed=changed,
            removed=len(known),
            passages=passages,
            skipped=tuple(skipped),
            skipped_count=skipped_count,
            seconds=time.monotonic() - start,
        )

    def close(self) -> None:
        """Closes every connection, once nobody reads any more."""
        for _ in range(MAX_READERS):
            connection = self._idle.get(timeout=10)
            if connection is not None:
                connection.close()


def _terms(query: str) -> list[str]:
    """The words of a query that tell something, at most `MAX_TERMS`."""
    words = (match[0].lower() for match in _WORD.finditer(query[:MAX_QUERY_CHARS]))
    return list(dict.fromkeys(word for word in words if word not in _STOP))[:MAX_TERMS]


def _files_of(corpus: Path) -> dict[str, Path]:
    """Readable files by their path relative to the corpus."""
    if corpus.is_file():
        files = {corpus.name: corpus}
    elif corpus.is_dir():
        paths = (path for path in corpus.rglob("*") if not any(part.startswith(".") for part in path.relative_to(corpus).parts))
        files = {path.relative_to(corpus).as_posix(): path for path in paths if path.is_file() and is_readable(path)}
    else:
        raise CorpusError(f"there is no folder or file {corpus}")
    if not any(is_readable(path) for path in files.values()):
        raise CorpusError(f"{corpus} holds no Markdown, HTML, text or JSON lines (.md .html .txt .jsonl .jsonl.gz)")
    if len(files) > MAX_FILES:
        raise CorpusError(f"{corpus} holds {len(files)} files; the limit is {MAX_FILES}")
    return files


def _fingerprint(path: Path) -> str:
    """Size and digest: what tells a changed file, whatever its time stamp says."""
    digest = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return f"{path.stat().st_size}-{digest.hexdigest()}"


def _drop_file(connection: sqlite3.Connection, relative: str) -> None:
    row = connection.execute("select file_id from files where path = ?", (relative,)).fetchone()
    if row is None:
        return
    connection.execute("delete from words where rowid in (select passage_id from passages where file_id = ?)", row)
    connection.execute("delete from passages where file_id = ?", row)
    connection.execute("delete from files where file_id = ?", row)


def _store_file(connection: sqlite3.Connection, relative: str, path: Path, fingerprint: str) -> Iterator[Skipped]:
    """Replaces a file's passages; yields what could not be read."""
    _drop_file(connection, relative)
    file_id = connection.execute(
        "insert into files (path, fingerprint, passages) values (?, ?, 0)", (relative, fingerprint)
    ).lastrowid
    stored = 0
    for item in read_file(path, relative):
        if not isinstance(item, Text):
            yield item
            continue
        passage_id = connection.execute(
            "insert into passages (file_id, url, title, document, publisher) values (?, ?, ?, ?, ?)",
            (file_id, item.url, item.title, item.document, item.publisher),
        ).lastrowid
        connection.execute(
            "insert into words (rowid, title, document, text) values (?, ?, ?, ?)",
            (passage_id, item.title, item.document, item.text),
        )
        stored += 1
    connection.execute("update files set passages = ? where file_id = ?", (stored, file_id))
