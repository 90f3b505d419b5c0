"""Two service processes on one PostgreSQL: either serves, stops and closes the turns of the other."""

import asyncio
import concurrent.futures
import signal
import time

import httpx2
import pytest

from lastword.grammar import TurnGrammar
from lastword.wire import decode_stream
from tests.support.postgres import PROGRAMS, postgres
from tests.support.product import wait_for
from tests.support.resuming import ResumingClient
from tests.support.service import Service

pytestmark = [
    pytest.mark.skipif(not PROGRAMS, reason="no PostgreSQL server below /usr/lib/postgresql"),
    pytest.mark.timeout(180),
]
QUESTION = {"message": "why is my stream partial?"}


@pytest.fixture(scope="module")
def url():
    with postgres() as address:
        yield address


def start(url, folder):
    return Service(
        folder,
        LASTWORD_SERVICE_DATABASE_URL=url,
        LASTWORD_SERVICE_PACE_MS="60",
        LASTWORD_SERVICE_DISCONNECT_GRACE_MS="1500",
    )


@pytest.fixture(scope="module")
def pair(url, tmp_path_factory):
    """Both; the last test kills the first one."""
    folder = tmp_path_factory.mktemp("instances")
    first, second = start(url, folder / "a"), start(url, folder / "b")
    wait_for(lambda: peers(first) == peers(second) == 2, 20, "the instances know each other")
    yield first, second
    for service in (first, second):
        if service.process.poll() is None:
            assert service.stop() == 0


def peers(service):
    lines = service.http.get("/metrics").text.splitlines()
    return int(float(next(line.split()[1] for line in lines if line.startswith("lastword_instances "))))


def begin(service, **fields):
    """A turn that runs; the open response, and its id."""
    request = service.http.build_request("POST", "/v1/turns", json={**QUESTION, **fields}, headers=fields.pop("headers", {}))
    response = service.http.send(request, stream=True)
    assert response.status_code == 200
    return response, response.headers["turn-id"]


def test_a_live_turn_is_followed_at_the_other_instance(pair):
    """Byte for byte the same, while it runs, and soon after it was written."""
    first, second = pair
    response, turn_id = begin(first)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        there = pool.submit(lambda: second.http.get(f"/v1/turns/{turn_id}/events").content)
        here = b"".join(response.iter_raw())
        ended = time.monotonic()
        mirrored = there.result(30)
    assert mirrored == here
    assert time.monotonic() - ended < 15
    response.close()


def test_a_live_turn_is_resumed_at_the_other_instance(pair):
    """Behind a cursor, as if it were its own; a cursor that the turn has not reached is refused."""
    first, second = pair
    response, turn_id = begin(first)
    pieces = response.iter_raw()
    seen = b""
    while seen.count(b"\n\n") < 3:
        seen += next(pieces)
    response.close()
    whole = seen[: seen.rindex(b"\n\n") + 2]
    cursor = f"{turn_id}.{whole.count(b'event: ')}"
    assert second.http.get(f"/v1/turns/{turn_id}/events", params={"after": 99999}).status_code == 409
    rest = second.http.get(f"/v1/turns/{turn_id}/events", headers={"last-event-id": cursor}).content
    assert whole + rest == first.http.get(f"/v1/turns/{turn_id}/events").content


def test_one_key_is_one_turn_at_both_instances(pair):
    """The second POST is attached to the turn that the first one began elsewhere."""
    first, second = pair
    key = {"idempotency-key": f"k{time.time_ns()}"}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(service.http.post, "/v1/turns", json=QUESTION, headers=key) for service in pair]
        one, two = (answer.result(60) for answer in answers)
    assert one.headers["turn-id"] == two.headers["turn-id"]
    assert one.content == two.content
    assert {"idempotency-replayed" in one.headers, "idempotency-replayed" in two.headers} == {True, False}
    assert second.http.post("/v1/turns", json={"message": "another"}, headers=key).status_code == 422


def test_a_turn_is_cancelled_at_the_other_instance(pair):
    """Accepted at once, done within seconds, and told there too."""
    first, second = pair
    response, turn_id = begin(first)
    next(response.iter_raw())
    assert second.http.post(f"/v1/turns/{turn_id}/cancel").status_code == 202
    wait_for(lambda: second.http.get(f"/v1/turns/{turn_id}").json()["terminal"], 30, "the terminal")
    terminal = first.http.get(f"/v1/turns/{turn_id}").json()["terminal"]
    assert terminal["metadata"]["completionStatus"] == "cancelled"
    assert second.http.post(f"/v1/turns/{turn_id}/cancel").json()["terminal"] == terminal
    response.close()


def test_a_viewer_at_the_other_instance_keeps_a_turn_alive(pair):
    """The grace after the last viewer does not end a turn that somebody reads elsewhere."""
    first, second = pair
    response, turn_id = begin(first, message="Explain the turn contract, its states, its retries and its partial answers.")
    next(response.iter_raw())
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        there = pool.submit(lambda: second.http.get(f"/v1/turns/{turn_id}/events").content)
        response.close()
        events = decode_stream(there.result(60))
    assert events[-1].metadata.completion_status == "success"


def test_turns_of_a_killed_instance_are_closed_by_the_other(pair):
    """Clients go on at the instance that lives, and lose and double nothing."""
    first, second = pair
    where = {"url": first.url}

    async def scenario():
        async with httpx2.AsyncClient(trust_env=False, timeout=30) as http:
            clients = [ResumingClient(http, lambda: where["url"], QUESTION) for _ in range(20)]
            tasks = [asyncio.create_task(client.run()) for client in clients]
            await asyncio.to_thread(wait_for, lambda: all(len(client.blocks) >= 3 for client in clients), 30, "text everywhere")
            first.process.send_signal(signal.SIGKILL)
            where["url"] = second.url
            await asyncio.wait_for(asyncio.gather(*tasks), 60)
            return clients

    clients = asyncio.run(scenario())
    first.process.wait(10)
    first.http.close()
    recovered = 0
    for client in clients:
        assert b"".join(client.blocks) == second.http.get(f"/v1/turns/{client.turn_id}/events").content
        grammar = TurnGrammar()
        for event in decode_stream(b"".join(client.blocks)):
            grammar.feed(event)
        recovered += grammar.terminal.metadata.recovered
    assert recovered >= 1, "no turn ran when the instance was killed"
