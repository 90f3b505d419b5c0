"""Sources of an answer, from structured evidence.

Owns the order: by first evidence, one entry for a URL, keeping every origin. URLs in the answer's text are a
fallback, used only where nothing structured was found.
"""

from __future__ import annotations

import re

from msgspec import Struct

from lastword.events import Origin, SourceDetail
from lastword.urls import normalize_url

_URL_IN_TEXT = re.compile(r"https?://[^\s<>\"'`\])}]+", re.IGNORECASE)


class _Entry(Struct):
    url: str
    title: str | None
    publisher: str | None
    score: float | None
    origins: list[Origin]


class SourceBook:
    """Collects the evidence of one turn. Used by the turn's worker alone."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def add(
        self, url: str, origin: Origin, *, title: str | None = None, publisher: str | None = None, score: float | None = None
    ) -> None:
        """Takes one piece of evidence. What is no absolute http(s) URL is no source, and is left out."""
        normal = normalize_url(url)
        if normal is None:
            return
        entry = self._entries.get(normal)
        if entry is None:
            self._entries[normal] = _Entry(normal, title, publisher, score, [origin])
            return
        entry.title = entry.title or title
        entry.publisher = entry.publisher or publisher
        entry.score = score if entry.score is None else entry.score
        if origin not in entry.origins:
            entry.origins.append(origin)

    def add_from_answer(self, answer: str) -> None:
        """Takes URLs from the answer's text, only where no structured evidence was found."""
        if not self._entries:
            for match in _URL_IN_TEXT.finditer(answer):
                self.add(match[0].rstrip(".,;:!?"), Origin.ANSWER)

    def details(self, limit: int) -> tuple[SourceDetail, ...]:
        """At most `limit` sources, ordered by first evidence. Where there are more, those that the provider cited stay first."""
        entries = list(self._entries.values())
        if len(entries) > limit:
            cited = [entry for entry in entries if Origin.PAYLOAD in entry.origins]
            others = [entry for entry in entries if Origin.PAYLOAD not in entry.origins]
            kept = {entry.url for entry in (cited + others)[:limit]}
            entries = [entry for entry in entries if entry.url in kept]
        return tuple(
            SourceDetail(url=e.url, title=e.title, publisher=e.publisher, origins=tuple(e.origins), score=e.score)
            for e in entries
        )
