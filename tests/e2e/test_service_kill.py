"""SIGKILL of the service under load: every accepted turn has one terminal, in its database and in DuckDB, and nobody lost or saw twice what was sent."""

import asyncio
import os
import random
import signal
import subprocess
import sys

import httpx2
import pytest
from sqlalchemy import text

from lastword.grammar import TurnGrammar
from lastword.wire import decode_stream
from service.store.engine import open_engine
from tests.support.product import ROOT, answers, free_port, wait_for
from tests.support.resuming import ResumingClient

KILLS = 20
CLIENTS = 50

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]


class Pair:
    """A collector, and a service that is killed and started again on the same port."""

    def __init__(self, folder):
        self.ports = {"COLLECTOR": free_port(), "COLLECTOR_GRPC": free_port(), "SERVICE": free_port()}
        self.collector, self.service = (f"http://127.0.0.1:{self.ports[name]}" for name in ("COLLECTOR", "SERVICE"))
        clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTWORD_")}
        self.environment = {
            **clean,
            **{f"LASTWORD_{name}_PORT": str(port) for name, port in self.ports.items()},
            "LASTWORD_DATA_DIR": str(folder),
            "LASTWORD_SERVICE_COLLECTOR_URL": self.collector,
            "LASTWORD_LOG_LEVEL": "ERROR",
            "LASTWORD_SERVICE_PACE_MS": "20",
        }
        self.running = {}

    def start(self, name):
        self.running[name] = subprocess.Popen([sys.executable, "-m", name], cwd=ROOT, env=self.environment)
        url = self.collector if name == "collector" else self.service
        wait_for(lambda: answers(f"{url}/health/ready"), 60, f"the {name} is ready", 0.05)

    def kill_service(self):
        self.running["service"].send_signal(signal.SIGKILL)
        self.running["service"].wait(10)

    def sql(self, query):
        body = {"sql": query, "maxRows": 1_000_000}
        return httpx2.post(f"{self.collector}/v1/sql", json=body, trust_env=False, timeout=60).json()["rows"]

    def stop(self):
        for name in ("service", "collector"):
            if name in self.running and self.running[name].poll() is None:
                self.running[name].terminate()
                self.running[name].wait(30)


@pytest.fixture
def pair(tmp_path):
    pair = Pair(tmp_path)
    try:
        pair.start("collector")
        pair.start("service")
        yield pair
    finally:
        pair.stop()


async def ask_until(pair, http, stopping, clients):
    """Asks one question after the other."""
    while not stopping.is_set():
        client = ResumingClient(http, lambda: pair.service, {"message": "Why is my stream partial, and what is a turn?"})
        clients.append(client)
        await client.run()


async def load(pair, seed):
    rng = random.Random(seed)
    stopping, clients = asyncio.Event(), []
    limits = httpx2.Limits(max_connections=2 * CLIENTS)
    async with httpx2.AsyncClient(trust_env=False, timeout=30, limits=limits) as http:
        tasks = [asyncio.create_task(ask_until(pair, http, stopping, clients)) for _ in range(CLIENTS)]
        for _ in range(KILLS):
            await asyncio.sleep(0.3 + rng.random() * 1.2)
            await asyncio.to_thread(pair.kill_service)
            await asyncio.to_thread(pair.start, "service")
        await asyncio.sleep(1)
        stopping.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 120)
    return clients


def test_no_accepted_turn_is_lost_or_doubled_by_twenty_kills(pair, tmp_path):
    """Fifty clients ask and resume while the service is killed twenty times."""
    clients = asyncio.run(load(pair, seed=1))
    assert sum(client.connections for client in clients) > len(clients) + KILLS, "no connection was cut: nothing was tried"
    recovered = 0
    with httpx2.Client(base_url=pair.service, trust_env=False, timeout=30) as http:
        for client in clients:
            replay = http.get(f"/v1/turns/{client.turn_id}/events").content
            assert b"".join(client.blocks) == replay, client.turn_id
            grammar = TurnGrammar()
            for event in decode_stream(replay):
                grammar.feed(event)
            recovered += grammar.terminal.metadata.recovered
    assert recovered >= KILLS, "turns were running at every kill"
    engine = open_engine(f"sqlite:///{tmp_path}/service/turns.sqlite")
    with engine.connect() as connection:
        states = {state for (state,) in connection.execute(text("select distinct state from turns"))}
        accepted = {row[0] for row in connection.execute(text("select turn_id from turns"))}
    engine.dispose()
    assert states <= {"done", "error"}
    assert {client.turn_id for client in clients} <= accepted
    wait_for(
        lambda: pair.sql("select count(*) from turns where terminal in ('done', 'error')")[0][0] >= len(accepted), 60, "records"
    )
    stored = pair.sql("select turn_id, count(*) from turns group by 1")
    assert {turn_id for turn_id, _ in stored} == accepted
    assert {count for _, count in stored} == {1}
