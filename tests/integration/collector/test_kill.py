"""SIGKILL under load: what was acknowledged is stored, once, however often it was sent."""

import concurrent.futures
import itertools
import os
import threading

import duckdb
import httpx2
import pytest

from tests.integration.collector.process import Program
from tests.support.otlp import accepted, ended, log_request, span_ids, spans
from tests.support.product import wait_for

ROUNDS = int(os.environ.get("LASTWORD_TEST_KILLS", "20"))
"""Kills."""
SENDERS = 3
SPANS_A_ROUND = 2000


class Acknowledged:
    """What the collector has answered 200 to."""

    def __init__(self):
        self.lock = threading.Lock()
        self.spans, self.turns = [], []
        self.bodies = []

    def add(self, signal, ids, body):
        with self.lock:
            (self.spans if signal == "traces" else self.turns).extend(ids)
            self.bodies.append((signal, body))


@pytest.mark.slow
@pytest.mark.timeout(100 + 30 * ROUNDS)
def test_nothing_acknowledged_is_lost_or_doubled_by_kills(tmp_path):
    """Senders under load that send everything twice, SIGKILL while rows land and are published, restart: each acknowledged id is there once, live and in the catalog."""
    numbers = itertools.count()
    done = Acknowledged()
    stop = threading.Event()
    program = Program(tmp_path, LASTWORD_COLLECTOR_PUBLISH_MS="150", LASTWORD_COLLECTOR_DEDUP_KEYS="3000")

    def send(number):
        while not stop.is_set():
            place = next(numbers)
            traces, turn = (
                spans(100 if place % 5 else 1500),
                f"turn-{place}",
            )  # small bodies, and some that another process decodes
            requests = [("traces", traces, span_ids(traces)), ("logs", log_request(accepted(turn), ended(turn)), [turn])]
            for signal, request, ids in requests:
                body = request.SerializeToString()
                for _ in range(2):
                    try:
                        if program.post(signal, body).status_code == 200:
                            done.add(signal, ids, body)
                    except httpx2.HTTPError:
                        return

    for number in range(1, ROUNDS + 1):
        program.start()
        stop.clear()
        with concurrent.futures.ThreadPoolExecutor(SENDERS) as pool:
            futures = [pool.submit(send, sender) for sender in range(SENDERS)]
            wait_for(
                lambda wanted=number * SPANS_A_ROUND: len(done.spans) >= wanted, 60, "spans are acknowledged", pause_s=0.01
            )
            program.kill()
            stop.set()
            concurrent.futures.wait(futures, 30)
    program.start()
    for signal, body in done.bodies[:: max(1, len(done.bodies) // 100)]:
        assert program.post(signal, body).status_code == 200
    live_spans = dict(program.rows("select span_id, count(*) from spans group by 1"))
    live_turns = dict(program.rows("select turn_id, count(*) from turns group by 1"))
    program.stop()
    with duckdb.connect(str(tmp_path / "collector" / "catalog.duckdb"), read_only=True) as catalog:
        published_spans = dict(catalog.execute("select span_id, count(*) from spans group by 1").fetchall())
        published_turns = dict(catalog.execute("select turn_id, count(*) from turns group by 1").fetchall())
        ((counted,),) = catalog.execute("select sum(n) from turn_minutes").fetchall()
    assert len(set(done.spans)) >= ROUNDS * SPANS_A_ROUND // 2
    assert set(done.spans) - set(live_spans) == set()
    assert set(done.turns) - set(live_turns) == set()
    assert set(live_spans.values()) == set(live_turns.values()) == {1}
    assert (published_spans, published_turns) == (live_spans, live_turns)
    assert counted == len(live_turns)
