"""Disks that fail: no 200 for what is not on disk, the failure is said, and when the disk is well again so is the collector."""

import concurrent.futures
import contextlib
import os
import shutil
import subprocess
import time

import duckdb
import pytest
from google.rpc.status_pb2 import Status

from collector.store.batches import table_of
from collector.store.store import Store
from collector.store.tables import SPANS
from tests.integration.collector.process import Program
from tests.support.otlp import span_ids, spans
from tests.support.product import wait_for

SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
static int broken(void) { const char *flag = getenv("SYNC_FAILS_WHILE"); return flag && access(flag, F_OK) == 0; }
int fsync(int fd) { if (broken()) { errno = EIO; return -1; } return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd); }
int fdatasync(int fd) { if (broken()) { errno = EIO; return -1; } return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd); }
"""
STREAM = "select range from range(100000000000) where range < 100000 or hash(range) % 1000000007 = 1"
"""Its first rows come at once, the others hardly ever."""


def heavy():
    """A request of 200 spans that do not compress."""
    request = spans(200)
    for span in request.resource_spans[0].scope_spans[0].spans:
        span.attributes.add(key="noise").value.string_value = os.urandom(1000).hex()
    return request


def send(program, request, acknowledged):
    """Sends once; the answer. Ids are noted where it is 200."""
    answer = program.post("traces", request.SerializeToString())
    if answer.status_code == 200:
        acknowledged.update(span_ids(request))
    return answer


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MiB, and how to make it larger."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here: it takes root")

    def grow():
        subprocess.run(["mount", "-o", "remount,size=200m", folder], check=True)

    yield folder, grow
    subprocess.run(["umount", "-l", folder], check=True)


def test_full_disk_is_503_and_loses_nothing(small_disk):
    """503 and the reason where the disk is full, counted on /metrics, and queries are answered.

    Killed there it starts and ends all the same; on a larger disk it stores again, and all that was acknowledged is there once.
    """
    folder, grow = small_disk
    acknowledged = set()
    program = Program(folder, LASTWORD_COLLECTOR_PUBLISH_MS="300")
    program.start()
    refused = None
    for _ in range(200):
        request = heavy()
        answer = send(program, request, acknowledged)
        if answer.status_code != 200:
            refused = request
            break
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "No space left" in Status.FromString(answer.content).message
    assert program.metric("lastword_commits_failed_total") >= 1
    assert program.metric("lastword_store_failing") == 1
    # Where the disk was full in the middle of a publication, the file is being opened anew: queries are answered 503 until it is.
    answered = wait_for(lambda: program.asked("select span_id from spans"), 30, "queries are answered")
    assert {row[0] for row in answered} >= acknowledged
    program.kill()
    program.start()
    answered = wait_for(lambda: program.asked("select span_id from spans"), 30, "queries are answered after a start")
    assert {row[0] for row in answered} >= acknowledged
    program.stop()
    grow()
    program.start()
    assert send(program, refused, acknowledged).status_code == 200
    assert program.metric("lastword_store_failing") == 0
    stored = dict(program.rows("select span_id, count(*) from spans group by 1"))
    assert acknowledged - set(stored) == set()
    assert set(stored.values()) == {1}
    program.stop()


def noise(first, last):
    """Spans that do not compress, as the writer hands them over."""
    empty = dict.fromkeys(SPANS.names)
    rows = [
        empty | {"trace_id": "a" * 32, "span_id": f"{number:016x}", "name": os.urandom(1000).hex()}
        for number in range(first, last)
    ]
    return {"spans": table_of([row | {"start_ns": 1, "end_ns": 2, "kind": "internal"} for row in rows], SPANS)}


def counted(store):
    with store.reading() as reader:
        return reader.execute("SELECT count(*) FROM spans").fetchone()[0]


@pytest.mark.parametrize("culprit", ["writer", "reader"])
def test_file_that_the_engine_gave_up_is_opened_anew_though_nobody_sends(small_disk, culprit):
    """A checkpoint without room costs the engine its file, whoever asked for it. Queries are answered again at the next round at the latest."""
    folder, grow = small_disk
    store = Store(folder / "collector", memory_limit_mib=256, threads=1, abandoned_grace_ms=0)
    for first in range(0, 5000, 500):
        store.append(noise(first, first + 500))
    (folder / "else").write_bytes(bytes(shutil.disk_usage(folder).free))
    if culprit == "writer":
        store.file.checkpoint()
        store.file.checkpoint()  # not tried as long as there is no more room
        assert store.file.checkpoint_failures == 1
        assert counted(store) == 5000
    else:
        with contextlib.closing(store.cursor()) as cursor, pytest.raises(duckdb.FatalException, match="No space left"):
            cursor.execute("CHECKPOINT")
        with pytest.raises(duckdb.FatalException):
            counted(store)
    store.rotate().reader.close()
    assert counted(store) == 5000
    grow()
    store.append(noise(4000, 5500))
    store.file.checkpoint()
    assert not store.path.with_name("hot.duckdb.wal").exists()
    assert counted(store) == 5500
    store.close()


def test_rows_that_come_after_the_file_was_opened_anew_are_not_emptied_with_those_before(small_disk):
    """A generation that is being published is written no more, also where the engine gave the file up meanwhile."""
    folder, grow = small_disk
    store = Store(folder / "collector", memory_limit_mib=256, threads=1, abandoned_grace_ms=0)
    for first in range(0, 5000, 500):
        store.append(noise(first, first + 500))
    rotation = store.rotate()
    rotation.reader.close()
    (folder / "else").write_bytes(bytes(shutil.disk_usage(folder).free))
    store.file.checkpoint()
    assert store.file.checkpoint_failures == 1
    grow()
    store.append(noise(5000, 5010))
    store.adopt(rotation.generation, [], [])
    assert counted(store) == 10
    store.close()


@pytest.fixture
def failing_sync(tmp_path):
    """A collector whose syncs fail while a file is there, and that file."""
    if shutil.which("cc") is None:
        pytest.skip("a failing sync needs a C compiler to be made")
    source, shim, flag = tmp_path / "shim.c", tmp_path / "shim.so", tmp_path / "broken"
    source.write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True, timeout=60)
    program = Program(tmp_path / "data", LD_PRELOAD=str(shim), SYNC_FAILS_WHILE=str(flag), LASTWORD_COLLECTOR_PUBLISH_MS="200")
    program.start()
    return program, flag


def test_failed_sync_is_503_and_loses_nothing(failing_sync):
    """A sync that fails is no 200; the file is opened anew, and what was acknowledged before and after is there once."""
    program, flag = failing_sync
    acknowledged = set()
    for _ in range(3):
        assert send(program, spans(20), acknowledged).status_code == 200
    flag.touch()
    unsure = spans(20)
    for _ in range(3):
        answer = send(program, unsure, acknowledged)
        assert answer.status_code == 503
        assert "sync failed" in Status.FromString(answer.content).message
    assert program.metric("lastword_commits_failed_total") == 3
    flag.unlink()
    wait_for(lambda: send(program, unsure, acknowledged).status_code == 200, 20, "the store is well again")
    for _ in range(3):
        assert send(program, spans(20), acknowledged).status_code == 200
    wait_for(lambda: program.metric("lastword_hot_rows") == 0, 20, "everything is published")
    program.kill()
    program.start()
    stored = dict(program.rows("select span_id, count(*) from spans group by 1"))
    assert acknowledged - set(stored) == set()
    assert set(stored.values()) == {1}
    program.stop()


@pytest.mark.parametrize("slow", ["select count(*) from range(1000000) a, range(1000000) b", STREAM])
def test_query_does_not_keep_the_file_from_being_opened_anew(failing_sync, slow):
    """Neither one that computes nor one whose rows come: it ends with 503, and storing goes on long before its own time limit."""
    program, flag = failing_sync
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        query = pool.submit(program.asked, slow)
        time.sleep(1)  # nothing tells that it has begun
        flag.touch()
        assert send(program, spans(20), set()).status_code == 503
        flag.unlink()
        begun = time.monotonic()
        wait_for(lambda: send(program, spans(20), set()).status_code == 200, 20, "the store is well again")
        assert query.result(30) is None
        assert time.monotonic() - begun < 15
    program.stop()
