"""How `lastword db` gets at a store: the published part by its catalog, which is never locked; the whole store where no collector runs; else by asking the collector.

Invariant: two processes never write one store. Who holds the hot file is the writer; everybody else reads the catalog.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import httpx2

from collector.settings import CollectorSettings
from collector.store.catalog import CATALOG_NAME
from collector.store.hot import StoreInUse
from collector.store.publisher import Publisher
from collector.store.retention import Keep
from collector.store.store import HOT_NAME, Store
from collector.writer import Writer

NEVER_MS = 10**9
_FILE = re.compile(r"'((?:[^']|'')*\.parquet)'")


class Unusable(Exception):
    """Nothing can be done; the message says why, and what to do."""


def open_store(settings: CollectorSettings) -> Store:
    """The store of these settings, which no other process holds then.

    Raises:
        StoreInUse: a collector runs on it.
        StoreError: it cannot be opened.
    """
    return Store(
        settings.store_path,
        memory_limit_mib=settings.memory_limit_mib,
        threads=settings.threads,
        abandoned_grace_ms=settings.abandoned_grace_ms,
        dedup_keys=settings.dedup_keys,
    )


class Whole:
    """A store that this process holds: it publishes when told to."""

    def __init__(self, settings: CollectorSettings, keep: Keep, *, every_ms: int = NEVER_MS) -> None:
        self.store = open_store(settings)
        self.writer = Writer(
            self.store,
            queue_rows=settings.queue_rows,
            commit_rows=settings.commit_rows,
            commit_wait_ms=settings.commit_wait_ms,
            hot_rows=settings.hot_rows,
            observe=lambda _appended, _seconds: None,
        )
        self.publisher = Publisher(self.store, self.writer, every_ms=every_ms, keep=keep)

    def publish(self) -> None:
        """Publishes what has landed, and lets the catalog follow.

        Raises:
            Unusable: it could not be; what has landed is safe in the hot file.
        """
        while True:
            if not self.publisher.round():
                raise Unusable(f"publishing failed: {self.publisher.state.last_error}")
            if not self.store.hot_rows:
                return

    def close(self) -> None:
        """Publishes and closes."""
        self.publisher.close()
        self.writer.close()
        self.store.close()


@contextlib.contextmanager
def whole(settings: CollectorSettings, keep: Keep | None = None, *, every_ms: int = NEVER_MS) -> Iterator[Whole]:
    """The store, held by this process. `keep` is for how long rows are kept; for ever where none is given.

    Raises:
        StoreInUse: a collector runs on it.
        StoreError: it cannot be opened.
    """
    held = Whole(settings, keep or Keep(), every_ms=every_ms)
    try:
        yield held
    finally:
        held.close()


def must_exist(settings: CollectorSettings) -> None:
    """Raises `Unusable` where there is no store."""
    if not (settings.store_path / HOT_NAME).exists() or not (settings.store_path / CATALOG_NAME).exists():
        raise Unusable(
            f"there is no store in {settings.store_path}: name its data folder with --data-dir, or set LASTWORD_DATA_DIR as for the collector"
        )


def address(settings: CollectorSettings) -> str:
    """Where the collector of these settings answers."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{settings.port}"


def answers(settings: CollectorSettings) -> bool:
    """Whether a collector answers there."""
    try:
        return httpx2.get(f"{address(settings)}/health/live", timeout=2, trust_env=False).is_success
    except httpx2.HTTPError:
        return False


def ask(settings: CollectorSettings, path: str) -> dict[str, Any]:
    """What the running collector answers to a POST.

    Raises:
        Unusable: it does not answer, or refuses.
    """
    url = address(settings)
    try:
        response = httpx2.post(f"{url}{path}", timeout=600, trust_env=False)
    except httpx2.HTTPError as error:
        raise Unusable(
            f"another process holds {settings.store_path / HOT_NAME}, and no collector answers at {url} ({error}): "
            "set LASTWORD_COLLECTOR_HOST and LASTWORD_COLLECTOR_PORT as for the collector"
        ) from error
    if not response.is_success:
        raise Unusable(f"the collector at {url} answers {response.status_code}: {response.text[:500]}")
    answer: dict[str, Any] = response.json()
    return answer


def publish(settings: CollectorSettings) -> bool:
    """Brings the catalog up to date; whether a running collector did it.

    Raises:
        Unusable, StoreError: it could not be.
    """
    must_exist(settings)
    try:
        with whole(settings) as held:
            held.publish()
    except StoreInUse:
        ask(settings, "/v1/store/publish")
        return True
    return False


@contextlib.contextmanager
def catalog(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The catalog of a store, read-only.

    Raises:
        Unusable: it cannot be read.
    """
    path = folder / CATALOG_NAME
    try:
        connection = duckdb.connect(str(path), read_only=True, config={"temp_directory": str(folder / "tmp")})
    except duckdb.Error as error:
        raise Unusable(f"{path} cannot be read: {error}") from error
    try:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection
    finally:
        connection.close()


def segments_of(connection: duckdb.DuckDBPyConnection) -> dict[str, list[Path]]:
    """The files behind a catalog, by table; those without rows, which every table has, left out."""
    views = connection.execute("SELECT view_name, sql FROM duckdb_views() WHERE schema_name = 'store'").fetchall()
    found: dict[str, list[Path]] = {}
    for name, sql in views:
        paths = [Path(text.replace("''", "'")) for text in _FILE.findall(sql)]
        if paths:
            found[name] = sorted({path for path in paths if not path.name.endswith("-empty.parquet")})
    return found
