"""The service's HTTP surface, in a real server process with the embedded provider."""

import concurrent.futures
import json
import os
import socket
import subprocess
import sys

import pytest

from lastword.grammar import TurnGrammar
from lastword.wire import decode_stream
from tests.support.product import ROOT, wait_for
from tests.support.service import QUESTION, Service

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    running = Service(tmp_path_factory.mktemp("service"))
    yield running
    assert running.stop() == 0


def turn_of(response):
    """The events of a response, checked against the grammar."""
    events = decode_stream(response.content)
    grammar = TurnGrammar()
    for event in events:
        grammar.feed(event)
    assert grammar.terminal is not None
    return events


def test_stream_has_the_headers_that_keep_proxies_away(service):
    """200, an event stream, nothing packed or cached, the turn's id and the contract's version."""
    response = service.ask(headers={"accept-encoding": "gzip"})
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert response.headers["cache-control"] == "no-cache, no-transform"
    assert response.headers["x-accel-buffering"] == "no"
    assert "content-encoding" not in response.headers
    assert (response.headers["turn-id"], response.headers["turn-contract"]) == (turn_of(response)[0].turn_id, "turn/1.0")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"message": 1}', 400),
        (b"{}", 400),
        (b'{"message": ""}', 400),
        (b'{"message": "x", "deadlineMs": 0}', 400),
        (b'{"message": "x", "onDisconnect": "explode"}', 400),
        (b'{"message": "x", "conversationId": "a b"}', 400),
        (json.dumps({"message": "x", "metadata": {"k": "v" * 1000}}).encode(), 400),
        (json.dumps({"message": "x" * 40_000}).encode(), 413),
        (json.dumps({"message": "x" * 300_000}).encode(), 413),
    ],
)
def test_bad_question_is_a_problem(service, body, status):
    """Before `ack` every failure is an HTTP status with a problem document."""
    response = service.http.post("/v1/turns", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.headers["content-type"]) == (status, PROBLEM)
    assert response.json()["status"] == status


def test_unknown_fields_and_paths(service):
    """What is not known is ignored in a body, and 404 as a path or a turn."""
    assert service.ask(novel=1).status_code == 200
    for path in ("/nope", "/v1/turns/trn_x", "/v1/turns/trn_x/events", "/v1/conversations/nope"):
        response = service.http.get(path)
        assert (response.status_code, response.headers["content-type"]) == (404, PROBLEM)
    assert service.http.put("/v1/turns").status_code == 405


@pytest.mark.parametrize(
    "path", ["/docs/../pyproject.toml", "/docs/%2e%2e/pyproject.toml", "/docs//etc/passwd", "/docs/generate.py"]
)
def test_documents_do_not_lead_out_of_the_corpus(service, path):
    """Only documents of the corpus are served."""
    with socket.create_connection(("127.0.0.1", service.port), 10) as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert b" 404 " in raw.recv(4096).split(b"\r\n")[0]


def test_traceparent_is_continued_or_a_new_trace_begins(service):
    """A good one is continued, flags 03 too; a malformed one is no error."""
    trace = "0af7651916cd43dd8448eb211c80319c"
    for flags in ("01", "03", "00"):
        response = service.ask(headers={"traceparent": f"00-{trace}-b7ad6b7169203331-{flags}"})
        assert turn_of(response)[0].trace_id == trace
    for bad in ("nonsense", f"00-{'0' * 32}-b7ad6b7169203331-01"):
        assert turn_of(service.ask(headers={"traceparent": bad}))[0].trace_id not in (trace, "0" * 32)


def test_replay_and_resume_give_the_same_bytes(service):
    """The whole log again, behind every event, and nothing behind the terminal."""
    first = service.ask()
    turn_id, whole = first.headers["turn-id"], first.content
    events = f"/v1/turns/{turn_id}/events"
    assert service.http.get(events).content == whole
    frames = [frame + b"\n\n" for frame in whole.split(b"\n\n") if frame]
    for after in (1, len(frames) // 2, len(frames) - 1):
        rest = b"".join(frames[after:])
        assert service.http.get(events, headers={"last-event-id": f"{turn_id}.{after}"}).content == rest
        assert service.http.get(events, params={"after": after}).content == rest
    assert service.http.get(events, params={"after": len(frames)}).status_code == 204
    assert service.http.get(events, params={"after": len(frames) + 1}).status_code == 409
    for bad in ("x", "trn_other.1", "-1", "1.5"):
        assert service.http.get(events, headers={"last-event-id": bad}).status_code == 400


def test_idempotency_key_attaches_and_refuses_another_payload(service):
    """Twenty simultaneous posts with one key are one turn; another payload is 422."""
    headers = {"Idempotency-Key": "k-1"}
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        responses = list(pool.map(lambda _: service.ask(headers=headers), range(20)))
    assert [response.status_code for response in responses] == [200] * 20
    assert len({response.content for response in responses}) == 1
    assert sum(response.headers.get("idempotency-replayed") == "true" for response in responses) == 19
    assert service.ask("something else", headers=headers).status_code == 422


def test_cancel_ends_a_stalled_turn_and_is_idempotent(service):
    """202 while it runs, 200 with the terminal afterwards; the stream ends as cancelled."""
    with service.http.stream("POST", "/v1/turns", json={"message": QUESTION, "metadata": {"fault": "stall"}}) as response:
        path = f"/v1/turns/{response.headers['turn-id']}"
        pieces = response.iter_raw()
        data = next(pieces)
        while b"event: chunk" not in data:
            data += next(pieces)
        assert service.http.post(f"{path}/cancel").status_code in (200, 202)
        data += b"".join(pieces)
    done = decode_stream(data)[-1].metadata
    assert (done.completion_status, done.partial, done.reason) == ("cancelled", True, "client_cancelled")
    again = service.http.post(f"{path}/cancel")
    assert (again.status_code, again.json()["terminal"]["type"]) == (200, "done")
    assert service.http.get(path).json()["state"] == "done"


@pytest.mark.parametrize(("mode", "reason"), [("cancel", "client_disconnected"), ("continue", None)])
def test_disconnect_is_cancel_only_where_asked(service, mode, reason):
    """A client that leaves ends its turn under `cancel`; under `continue` the turn is finished without it."""
    body = {"message": QUESTION, "onDisconnect": mode, "metadata": {"answer_tokens": "400"}}
    with service.http.stream("POST", "/v1/turns", json=body) as response:
        path = f"/v1/turns/{response.headers['turn-id']}"
        next(response.iter_raw())
    terminal = wait_for(lambda: service.http.get(path).json()["terminal"], 20, "the turn ends")
    assert terminal["metadata"]["reason"] == reason


def test_conversation_is_kept(service):
    """Questions and canonical answers, in order; a follow-up knows what it is about."""
    first = turn_of(service.ask("What is a turn?"))
    conversation = first[0].conversation_id
    turn_of(service.ask("And why?", conversationId=conversation))
    messages = service.http.get(f"/v1/conversations/{conversation}").json()["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]
    assert messages[1]["text"] == first[-1].metadata.answer


def test_new_turns_start_while_others_wait(service):
    """Fifty turns that wait for their first token hold up nobody."""
    with concurrent.futures.ThreadPoolExecutor(50) as pool:
        slow = [pool.submit(service.ask, metadata={"fault": "slow_first_token"}, deadlineMs=8000) for _ in range(50)]
        wait_for(lambda: "lastword_active_turns 50.0" in service.http.get("/metrics").text, 20, "fifty turns run")
        turn_of(service.ask("2+2"))
        assert not any(future.done() for future in slow)
        assert all(turn_of(future.result())[-1].metadata.completion_status == "success" for future in slow)


def test_over_capacity_is_503_with_retry_after(tmp_path):
    """Beyond the workers a question is refused before `ack`, and the others are unharmed."""
    small = Service(tmp_path, LASTWORD_SERVICE_MAX_TURNS="2")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(small.ask, metadata={"fault": "slow_first_token"}) for _ in range(2)]
        wait_for(lambda: "lastword_active_turns 2.0" in small.http.get("/metrics").text, 20, "two turns run")
        refused = [small.ask() for _ in range(4)]
        assert [(response.status_code, response.headers["retry-after"]) for response in refused] == [(503, "1")] * 4
        assert all(turn_of(future.result())[-1].metadata.completion_status == "success" for future in slow)
    assert small.stop() == 0


def test_keys_keep_callers_apart(tmp_path):
    """Without a key 401; a turn and a conversation of another caller are 404."""
    guarded = Service(tmp_path, LASTWORD_SERVICE_API_KEYS="alpha,beta")
    assert guarded.ask().status_code == 401
    assert guarded.ask(headers={"authorization": "Bearer gamma"}).status_code == 401
    mine = guarded.ask(headers={"authorization": "Bearer alpha"})
    ack = turn_of(mine)[0]
    for path in (f"/v1/turns/{ack.turn_id}", f"/v1/turns/{ack.turn_id}/events", f"/v1/conversations/{ack.conversation_id}"):
        assert guarded.http.get(path, headers={"authorization": "Bearer beta"}).status_code == 404
        assert guarded.http.get(path, headers={"authorization": "Bearer alpha"}).status_code == 200
    theirs = guarded.ask(headers={"authorization": "Bearer beta"}, conversationId=ack.conversation_id)
    assert theirs.status_code == 404
    assert guarded.stop() == 0


def test_faults_at_rates_happen(tmp_path):
    """Faults by configuration strike without any request asking for them."""
    faulty = Service(tmp_path, LASTWORD_SERVICE_FAULTS="cut_after_text=1.0")
    done = turn_of(faulty.ask())[-1].metadata
    assert (done.completion_status, done.partial) == ("interrupted", True)
    assert faulty.stop() == 0


def test_finished_turn_is_replayed_after_a_restart(tmp_path):
    """The log of an ended turn outlives its process, byte for byte."""
    first = Service(tmp_path)
    response = first.ask()
    path = f"/v1/turns/{response.headers['turn-id']}"
    assert first.stop() == 0
    second = Service(tmp_path)
    assert second.http.get(f"{path}/events").content == response.content
    assert second.http.get(path).json()["state"] == "done"
    assert second.stop() == 0


def test_misspelt_setting_and_missing_key_stop_the_start(tmp_path):
    """One clear line, status 2."""
    for environment, words in (
        ({"LASTWORD_SERVICE_PROT": "1"}, "LASTWORD_SERVICE_PROT"),
        ({"LASTWORD_SERVICE_PROVIDER": "anthropic", "ANTHROPIC_API_KEY": ""}, "ANTHROPIC_API_KEY"),
        ({"LASTWORD_SERVICE_FAULTS": "explode=1"}, "explode"),
    ):
        command = [sys.executable, "-m", "service"]
        env = {**os.environ, "LASTWORD_DATA_DIR": str(tmp_path), **environment}
        ended = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 2
        assert words in ended.stderr
        assert "Traceback" not in ended.stderr
