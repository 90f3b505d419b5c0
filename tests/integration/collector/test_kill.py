"""SIGKILL under load: what was acknowledged is stored, once."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading

import httpx2
import pytest

from tests.support.otlp import span_ids, spans
from tests.support.product import ROOT, answers, free_port, wait_for

ROUNDS = 3
SENDERS = 3


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path):
    """Three times: senders under load, SIGKILL, restart; every acknowledged span is there once, also when all is sent again."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "LASTWORD_COLLECTOR_PORT": str(port), "LASTWORD_DATA_DIR": str(tmp_path)}
    acknowledged, sent = [], []
    lock = threading.Lock()

    def run():
        process = subprocess.Popen([sys.executable, "-m", "collector"], cwd=ROOT, env=environment)
        wait_for(lambda: answers(f"{url}/health/ready"), 60, "the collector is ready")
        return process

    def send(stop):
        while not stop.is_set():
            request = spans(100)
            with lock:
                sent.append(request)
            try:
                response = httpx2.post(
                    f"{url}/v1/traces",
                    content=request.SerializeToString(),
                    headers={"content-type": "application/x-protobuf"},
                    trust_env=False,
                    timeout=10,
                )
            except httpx2.HTTPError:
                return
            if response.status_code == 200:
                with lock:
                    acknowledged.extend(span_ids(request))

    process = run()
    for number in range(1, ROUNDS + 1):
        stop = threading.Event()
        with concurrent.futures.ThreadPoolExecutor(SENDERS) as pool:
            futures = [pool.submit(send, stop) for _ in range(SENDERS)]
            wait_for(lambda wanted=number * 2000: len(acknowledged) >= wanted, 60, "spans are acknowledged")
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            stop.set()
            concurrent.futures.wait(futures, 30)
        process = run()
    for request in sent[-30:]:
        body = request.SerializeToString()
        httpx2.post(f"{url}/v1/traces", content=body, headers={"content-type": "application/x-protobuf"}, trust_env=False)
    query = {"sql": "select span_id, count(*) from spans group by 1", "maxRows": 1_000_000}
    stored = dict(httpx2.post(f"{url}/v1/sql", json=query, trust_env=False, timeout=60).json()["rows"])
    process.terminate()
    process.wait(30)
    assert len(acknowledged) >= ROUNDS * 2000
    assert set(acknowledged) - set(stored) == set()
    assert set(stored.values()) == {1}
