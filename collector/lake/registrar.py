"""The lake's thread: every few seconds the segments that count are registered, and superseded ones taken out.

Knows the store by what it says of segments, and writes nothing of it. A lake that cannot be reached stops nothing: rows are taken and published as ever, and superseded
files stay until the lake was seen to have let go of them.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
from msgspec import Struct

from collector.lake.dsn import Dsn, LakeUnusable
from collector.lake.engine import check_extensions
from collector.lake.lake import Lake, LakeError, Shape
from collector.lake.plan import Files, Released, overlap
from collector.store.publisher import GRACE
from collector.store.segments import sync_file, sync_folder
from collector.store.store import SEGMENTS_NAME, Store

logger = logging.getLogger(__name__)

ID_NAME = "lake.id"
"""The file that says that a store is in a lake, and under which name. A backup does not have it: a copy of a store is another collector."""


class Registered(Struct, frozen=True):
    """What the last rounds did, for /metrics and the status."""

    files: int = 0
    rounds: int = 0
    failures: int = 0
    last_error: str | None = None
    registered_at: datetime | None = None
    seconds: float = 0.0


def check_lake(dsn: str, path: str, store: Path) -> None:
    """Finds out at the start what would never work.

    Raises:
        LakeUnusable: a setting is missing or cannot be used; or there is none, and the store is in a lake.
    """
    if not dsn:
        if (store / ID_NAME).exists():
            raise LakeUnusable(
                f"{store} is registered in a lake, whose readers would miss files that are compacted without it: "
                "set LASTWORD_COLLECTOR_LAKE_DSN, or take the store out with `lastword lake leave`"
            )
        return
    Dsn(dsn)
    if not path:
        raise LakeUnusable(
            "LASTWORD_COLLECTOR_LAKE_PATH is needed with LASTWORD_COLLECTOR_LAKE_DSN: an empty folder that all collectors share"
        )
    own = Path(path).expanduser().resolve()
    if any(overlap(own, folder.resolve()) for folder in (store, store / SEGMENTS_NAME)):  # the second may be a link
        raise LakeUnusable(
            f"LASTWORD_COLLECTOR_LAKE_PATH must not lie around {store}, nor in it: whoever tidies a lake deletes what it does not know there"
        )
    check_extensions()


def collector_id(store: Path) -> str:
    """The name of a store in the lake, made where it has none."""
    file = store / ID_NAME
    if not file.exists():
        unfinished = file.with_name(f"{ID_NAME}.unfinished")
        unfinished.write_text(uuid.uuid4().hex, encoding="ascii")
        sync_file(unfinished)
        unfinished.replace(file)
        sync_folder(store)
    return file.read_text(encoding="ascii").strip()


class Registrar:
    """Registers every few seconds until it is closed."""

    def __init__(self, store: Store, *, dsn: str, path: str, every_ms: int) -> None:
        self._store = store
        self._folder = store.folder.path.resolve()
        data_path = Path(path).expanduser().resolve()
        data_path.mkdir(parents=True, exist_ok=True)
        shape = Shape(store.columns, {name: store.folder.empty(name) for name in store.columns}, store.grace_ms)
        name = collector_id(store.folder.path.parent)
        self._lake = Lake(Dsn(dsn), data_path, folder=self._folder, collector=name, shape=shape)
        self._every_s = every_ms / 1000
        self._released = Released(GRACE.total_seconds())
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.state = Registered()
        self._thread = threading.Thread(target=self._run, name="lake", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            self.round()
            self._stop.wait(self._every_s)

    def round(self) -> bool:
        """Registers what counts now; whether it succeeded. A failure is told in the state and tried again."""
        with self._lock:
            last = self.state
            try:
                wanted = self._wanted()
                done = self._lake.register(wanted)
                superseded = [str(self._folder / segment.file) for segment, _ in self._store.segments(superseded=True)]
            except (LakeError, duckdb.Error, OSError) as error:
                if last.last_error != str(error):
                    logger.error("the lake was not written, and is tried again: %s", error)  # noqa: TRY400 - the message says it all
                self.state = Registered(
                    last.files, last.rounds, last.failures + 1, str(error), last.registered_at, last.seconds
                )
                return False
            files = set().union(*wanted.values())
            self._released.saw(superseded, files, time.monotonic())
            if last.last_error is not None:
                logger.info("the lake is written again")
            self.state = Registered(len(files), last.rounds + 1, last.failures, None, datetime.now(UTC), done.seconds)
            return True

    def _wanted(self) -> Files:
        found: Files = {}
        for segment, _ in self._store.segments():
            if not segment.rows:  # DuckLake keeps no file without rows: it would be added at every round
                continue
            found.setdefault(segment.table, set()).add(str(self._folder / segment.file))
        return found

    def removable(self, files: Iterable[str]) -> list[str]:
        """Those of these superseded files that no reader of the lake can want any more."""
        paths = {str(self._folder / file): file for file in files}
        return [paths[path] for path in self._released.among(paths, time.monotonic())]

    def age_s(self) -> float:
        """Seconds since the last registration; -1 before the first."""
        at = self.state.registered_at
        return -1.0 if at is None else (datetime.now(UTC) - at).total_seconds()

    def close(self) -> None:
        """Registers what was published last and ends. Behind the publisher, before the store is closed."""
        self._stop.set()
        self._thread.join()
        self.round()
        self._lake.close()
