"""Two collectors in one lake on a real PostgreSQL, killed under load: nothing lost, nothing doubled, and no reader who fails."""

import contextlib
import itertools
import threading

import httpx2
import pytest

from collector.lake.dsn import Dsn
from collector.lake.engine import attach
from tests.integration.collector.process import Program
from tests.support.otlp import NS, accepted, ended, log_request, span_ids, spans
from tests.support.postgres import PROGRAMS, postgres
from tests.support.product import wait_for

pytestmark = pytest.mark.skipif(not PROGRAMS, reason="no PostgreSQL server below /usr/lib/postgresql")
SPANS_A_ROUND = 800
SENDERS = 2
_HEADERS = {"content-type": "application/x-protobuf"}


class Senders:
    """Threads that send until the block ends, each to the collectors in turn, and where one does not answer to the other, as senders that try again do."""

    def __init__(self, urls):
        self.urls = urls
        self.spans, self.turns, self.twice = set(), set(), 0
        self._lock, self._stop, self._numbers = threading.Lock(), threading.Event(), itertools.count()

    def __enter__(self):
        self._threads = [threading.Thread(target=self._send, args=[number], daemon=True) for number in range(SENDERS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _send(self, sender):
        with httpx2.Client(trust_env=False, timeout=20, headers=_HEADERS) as client:
            for number in itertools.count():
                if self._stop.is_set():
                    return
                traces, turn = spans(50, start_ns=NS + next(self._numbers)), f"turn-{sender}-{number}"
                self._deliver(client, "traces", traces, (sender + number) % 2, self.spans, span_ids(traces))
                # A turn begins at one collector and ends at the other.
                self._deliver(client, "logs", log_request(accepted(turn)), number % 2, set(), [])
                self._deliver(client, "logs", log_request(ended(turn)), 1 - number % 2, self.turns, [turn])

    def _deliver(self, client, signal, request, first, acknowledged, ids):
        """Every fifth request goes to both: the answer of the first was lost on its way, say."""
        body, twice, taken = request.SerializeToString(), next(self._numbers) % 5 == 0, 0
        for url in (self.urls[first], self.urls[1 - first]):
            with contextlib.suppress(httpx2.HTTPError):
                taken += client.post(f"{url}/v1/{signal}", content=body).status_code == 200
            if taken and not twice:
                break
        with self._lock:
            self.twice += taken == 2
            if taken:
                acknowledged.update(ids)


class Reader(threading.Thread):
    """Reads the lake again and again: each row once, never fewer rows than before, and every file is there."""

    def __init__(self, dsn):
        super().__init__(daemon=True)
        self.dsn, self.stop, self.reads, self.failures = dsn, threading.Event(), 0, []

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.join(60)

    def run(self):
        last = 0
        while not self.stop.is_set():
            try:
                with attach(Dsn(self.dsn), "reader") as lake:
                    while not self.stop.wait(0.2) and self.reads % 20 < 19:
                        last = self._read(lake, last)
                    self.reads += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, a reader has failed
                self.failures.append(repr(error))

    def _read(self, lake, last):
        ((count, different, _),) = rows(lake, "SELECT count(*), count(DISTINCT span_id), max(attributes) FROM spans")
        ((turns, ended, _),) = rows(lake, "SELECT count(*), count(DISTINCT turn_id), max(record) FROM turns")
        assert (count, turns) == (different, ended)
        assert count >= last
        self.reads += 1
        return count


def rows(connection, sql):
    return connection.execute(sql).fetchall()


def ids(connection, column, table):
    return dict(rows(connection, f"SELECT {column}, count(*) FROM {table} GROUP BY 1"))


@pytest.fixture
def dsn():
    with postgres() as url:
        yield url


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_nothing_is_lost_or_doubled_in_the_lake_when_a_collector_is_killed(tmp_path, dsn):
    """One is killed while it takes, publishes and registers, and started again: each id that was acknowledged is in the lake once."""
    lake = {"dsn": dsn, "path": str(tmp_path / "lake"), "ms": "300"}
    environment = {f"LASTWORD_COLLECTOR_LAKE_{name.upper()}": value for name, value in lake.items()}
    programs = [
        Program(tmp_path / name, LASTWORD_COLLECTOR_PUBLISH_MS="300", LASTWORD_COLLECTOR_ALERTS="false", **environment)
        for name in ("one", "two")
    ]
    for program in programs:
        program.ready_s = 120  # two of them and a database, with senders and a reader beside them
        program.start()
    for program in programs:
        wait_for(lambda asked=program: asked.metric("lastword_lake_age_seconds") >= 0, 120, "it has registered")
    with Reader(dsn) as reader, Senders([program.url for program in programs]) as sent:
        _wait_for_more(sent, SPANS_A_ROUND)
        programs[0].kill()
        _wait_for_more(sent, SPANS_A_ROUND)
        programs[0].start()
        _wait_for_more(sent, SPANS_A_ROUND)
    for program in programs:
        program.stop()  # publishes and registers what it has
    assert reader.failures == []
    assert reader.reads > 5
    assert sent.twice > 10
    with attach(Dsn(dsn), "test") as lake:
        found_spans, found_turns = ids(lake, "span_id", "spans"), ids(lake, "turn_id", "turns")
        ((stored,),) = rows(lake, "SELECT count(*) FROM segments.spans")
        ((counted,),) = rows(lake, "SELECT sum(n) FROM turn_minutes")
    assert sent.spans - set(found_spans) == set()
    assert sent.turns - set(found_turns) == set()
    assert set(found_spans.values()) == set(found_turns.values()) == {1}
    assert stored > len(found_spans), "nothing was stored twice: the test has shown nothing"
    assert counted == len(found_turns)


def _wait_for_more(sent, count):
    before = len(sent.spans)
    wait_for(lambda: len(sent.spans) >= before + count, 120, "spans are acknowledged", pause_s=0.02)
