"""Bringing the index up to date with its corpus, in one transaction.

Owns what is in the tables. Must not know queries. Invariant: whoever reads meanwhile sees the index as it was, or as it is afterwards, never between.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct, field

from service.retrieval.errors import CorpusError
from service.retrieval.readers import Skipped, Text, is_readable, read_file

MAX_FILES = 100_000
MAX_SKIPPED_KEPT = 50

Progress = Callable[[int, int], None]
"""Called with the number of files that are done, and of all files."""


class Changes(Struct, kw_only=True):
    """What a refresh did. `skipped` holds the first of what could not be read, `skipped_count` how many there are."""

    changed: int = 0
    removed: int = 0
    skipped: list[Skipped] = field(default_factory=list)
    skipped_count: int = 0

    def skip(self, item: Skipped) -> None:
        """Notes what could not be read."""
        self.skipped_count += 1
        if len(self.skipped) < MAX_SKIPPED_KEPT:
            self.skipped.append(item)


def refresh(connection: sqlite3.Connection, corpus: Path, progress: Progress | None, *, anew: bool = False) -> Changes:
    """Reads what is new or changed, drops what is gone; `anew` reads everything. The caller commits.

    Raises:
        CorpusError: there is no such corpus, nothing in it can be read, or it has too many files.
    """
    changes = Changes()
    found = _files_of(corpus, changes)
    if anew:
        for table in ("files", "passages", "words"):
            connection.execute(f"delete from {table}")  # noqa: S608 - the names stand one line above
    known = dict(connection.execute("select path, fingerprint from files").fetchall())
    for number, (relative, path) in enumerate(sorted(found.items()), 1):
        try:
            fingerprint = _fingerprint(path)
        except OSError as error:  # it cannot be read, or went away since it was listed: then it leaves the index too
            changes.skip(_unreadable(relative, error))
            continue
        if known.pop(relative, None) != fingerprint:
            changes.changed += 1
            _drop_file(connection, relative)
            for skipped in _store_file(connection, relative, path, fingerprint):
                changes.skip(skipped)
        if progress is not None:
            progress(number, len(found))
    for relative in known:
        _drop_file(connection, relative)
    changes.removed = len(known)
    connection.execute("insert or replace into meta values ('corpus', ?)", (str(corpus.absolute()),))
    if changes.changed or changes.removed:
        connection.execute("insert into words (words) values ('optimize')")
    return changes


def _files_of(corpus: Path, changes: Changes) -> dict[str, Path]:
    """Readable files by their path relative to the corpus. Hidden files and folders are left out."""
    found: dict[str, Path] = {}
    if corpus.is_file():
        found = {corpus.name: corpus} if is_readable(corpus) else {}
    elif corpus.is_dir():
        for folder, folders, names in os.walk(
            corpus, onerror=lambda error: changes.skip(_unreadable(str(error.filename), error))
        ):
            folders[:] = [name for name in folders if not name.startswith(".")]
            paths = (Path(folder, name) for name in names if not name.startswith("."))
            found |= {path.relative_to(corpus).as_posix(): path for path in paths if is_readable(path) and _is_file(path)}
            if len(found) > MAX_FILES:
                raise CorpusError(f"{corpus} holds more than {MAX_FILES} files")
    else:
        raise CorpusError(f"there is no folder or file {corpus}")
    if not found:
        raise CorpusError(f"{corpus} holds no Markdown, HTML, text or JSON lines (.md .html .txt .jsonl .jsonl.gz)")
    return found


def _is_file(path: Path) -> bool:
    """Whether it is a file, and no pipe or dangling link; false where one may not even ask."""
    return os.path.isfile(path)  # noqa: PTH113 - pathlib's raises where the folder may not be entered


def _unreadable(where: str, error: OSError) -> Skipped:
    return Skipped(where, f"{type(error).__name__}: {error.strerror}")


def _fingerprint(path: Path) -> str:
    """Size and digest. Not the time of change: builds and copies set it to what they like, and a digest costs a second a gigabyte."""
    digest = hashlib.blake2b(digest_size=16)
    size = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
            size += len(block)
    return f"{size}-{digest.hexdigest()}"


def _drop_file(connection: sqlite3.Connection, relative: str) -> None:
    row = connection.execute("select file_id from files where path = ?", (relative,)).fetchone()
    if row is None:
        return
    connection.execute("delete from words where rowid in (select passage_id from passages where file_id = ?)", row)
    connection.execute("delete from passages where file_id = ?", row)
    connection.execute("delete from files where file_id = ?", row)


def _store_file(connection: sqlite3.Connection, relative: str, path: Path, fingerprint: str) -> Iterator[Skipped]:
    """Stores a file's passages; yields what could not be read."""
    insert = "insert into files (path, fingerprint) values (?, ?)"
    file_id = connection.execute(insert, (relative, fingerprint)).lastrowid
    for item in read_file(path, relative):
        if not isinstance(item, Text):
            yield item
            continue
        passage_id = connection.execute(
            "insert into passages (file_id, url, anchor, title, document, publisher) values (?, ?, ?, ?, ?, ?)",
            (file_id, item.url, item.anchor, item.title, item.document, item.publisher),
        ).lastrowid
        connection.execute(
            "insert into words (rowid, title, document, text) values (?, ?, ?, ?)",
            (passage_id, item.title, item.document, item.text),
        )
