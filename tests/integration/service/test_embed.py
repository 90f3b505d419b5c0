"""Turns inside other frameworks: the examples of the documentation keep the contract, and the runtime for code that is not asynchronous does."""

import json
import signal
import sys

import pytest

from lastword.check.case import all_cases
from lastword.errors import SettingsError
from lastword.grammar import TurnGrammar
from lastword.wire import decode_stream
from service.embed import SyncTurnRuntime
from service.settings import ServiceSettings
from tests.support.product import captured, free_port

LONG = {"G15", "R50", "C58", "C59"}
OF_THE_APPLICATION = {"V73"}
"""Who asks is the application's business, and what it answers to strangers."""
TRIED = {
    case.id
    for case in all_cases()
    if case.id[0] in "WGRC" or case.id in {"L66", "L68", "V71", "V72", "V74", "V75", "V76", "V79", "V80"}
} - LONG


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize("example", ["fastapi_app", "django_app"])
def test_example_keeps_the_contract(example, tmp_path):
    """On a real server, with the checker's provider, restarts included."""
    report = tmp_path / "report.json"
    arguments = ["check", f"http://127.0.0.1:{free_port()}", "--start", f"{sys.executable} docs/examples/{example}.py"]
    arguments += [
        "--env-file",
        "service/conformance.env",
        "--api-key",
        "check-one",
        "--other-key",
        "check-two",
        "--races",
        "10",
    ]
    arguments += ["--strict", "--limit", "200", "--json", str(report)]
    chosen = [word for case in sorted(TRIED) for word in ("--only", case)]
    run = captured([sys.executable, "-m", "lastword.cli.main", *arguments, *chosen], timeout_s=230)
    assert run.returncode == 0, run.stdout + run.stderr
    told = {case["id"]: case["verdict"] for case in json.loads(report.read_text())["cases"]}
    assert told == dict.fromkeys(TRIED, "passed"), run.stdout


@pytest.fixture
def turns(tmp_path):
    """A runtime in this process, without a collector behind it."""
    runtime = SyncTurnRuntime(ServiceSettings(data_dir=str(tmp_path), collector_url="http://127.0.0.1:1", pace_ms=5))
    runtime.start()
    yield runtime
    runtime.close()


def question(**fields):
    return json.dumps({"message": "why is my stream partial?", **fields}).encode()


def events_of(answer):
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "text/event-stream"
    return decode_stream(b"".join(answer.body))


def test_turn_comes_in_pieces_and_is_replayed(turns):
    """In order, whole, and from any place again, byte for byte; its state holds the terminal."""
    answer = turns.ask(question(), caller="ann")
    turn_id = answer.headers["Turn-Id"]
    pieces = list(answer.body)
    assert len(pieces) > 1
    events = decode_stream(b"".join(pieces))
    grammar = TurnGrammar()
    for event in events:
        grammar.feed(event)
    assert grammar.terminal.metadata.answer
    assert b"".join(turns.follow(turn_id, caller="ann").body) == b"".join(pieces)
    assert events_of(turns.follow(turn_id, caller="ann", after="3")) == events[3:]
    assert events_of(turns.follow(turn_id, caller="ann", headers={"last-EVENT-id": f"{turn_id}.2"})) == events[2:]
    behind = turns.follow(turn_id, caller="ann", after=str(len(events)))
    assert (behind.status, behind.body, behind.headers.get("Content-Type")) == (204, b"", None)
    assert json.loads(turns.look_at(turn_id, caller="ann").body)["lastSeq"] == len(events)
    assert turns.cancel(turn_id, caller="ann").status == 200


def test_nobody_sees_anothers_turn(turns):
    """404 for whatever is asked of it."""
    turn_id = turns.ask(question(), caller="ann").headers["Turn-Id"]
    answers = [turns.follow(turn_id, caller="bob"), turns.look_at(turn_id, caller="bob"), turns.cancel(turn_id, caller="bob")]
    assert [answer.status for answer in answers] == [404, 404, 404]
    assert {answer.headers["Content-Type"] for answer in answers} == {"application/problem+json"}


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"\xff", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"message": 7}', {}, 400),
        (b'{"message": " "}', {}, 400),
        (question(), {"Turn-Contract": "turn/9.0"}, 406),
        (question(), {"Idempotency-Key": "k" * 256}, 400),
        (b" " * 300_000, {}, 413),
    ],
)
def test_request_that_cannot_be_used_is_refused(turns, body, headers, status):
    """With a problem document that names its trace."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = turns.ask(body, caller="ann", headers={**headers, "traceparent": f"00-{trace}-00f067aa0ba902b7-01"})
    problem = json.loads(answer.body)
    assert (answer.status, problem["status"]) == (status, status)
    assert status == 400 or problem["traceId"] == trace


def test_same_key_is_the_same_turn(turns):
    """And another question under it is refused."""
    first = turns.ask(question(), caller="ann", headers={"Idempotency-Key": "k"})
    again = turns.ask(question(), caller="ann", headers={"idempotency-key": "k"})
    assert again.headers["Turn-Id"] == first.headers["Turn-Id"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert events_of(again) == events_of(first)
    assert turns.ask(question(route="lookup"), caller="ann", headers={"Idempotency-Key": "k"}).status == 422
    assert turns.ask(question(), caller="bob", headers={"Idempotency-Key": "k"}).headers["Turn-Id"] != first.headers["Turn-Id"]


def test_stream_that_is_not_read_to_its_end_is_left(turns):
    """A generator that is closed is a viewer that has gone: under `cancel` the turn ends."""
    answer = turns.ask(question(onDisconnect="cancel"), caller="ann")
    next(answer.body)
    answer.body.close()
    terminal = events_of(turns.follow(answer.headers["Turn-Id"], caller="ann"))[-1]
    assert terminal.metadata.completion_status == "cancelled"


def test_close_ends_running_turns_with_their_terminal(tmp_path):
    """A stream that is being read gets it."""
    runtime = SyncTurnRuntime(ServiceSettings(data_dir=str(tmp_path), collector_url="http://127.0.0.1:1", pace_ms=500))
    runtime.start()
    answer = runtime.ask(question(), caller="ann")
    seen = [next(answer.body), next(answer.body)]
    runtime.runtime.close()
    seen += answer.body
    terminal = decode_stream(b"".join(seen))[-1]
    assert (terminal.metadata.partial, terminal.metadata.reason) == (True, "server_shutdown")
    runtime.close()


def test_wrong_settings_are_told_at_once(tmp_path):
    """Before anything is started."""
    with pytest.raises(SettingsError, match="routes file"):
        SyncTurnRuntime(ServiceSettings(data_dir=str(tmp_path), routes_file=str(tmp_path / "none.toml")))


@pytest.mark.parametrize("caller", ["", "a" * 65])
def test_caller_that_cannot_be_stored_is_the_applications_mistake(turns, caller):
    """Told where it is made, and not by the database."""
    with pytest.raises(ValueError, match="`caller`"):
        turns.ask(question(), caller=caller)


def test_drain_is_not_put_where_nothing_would_end_the_process(turns):
    """Without a server's handler behind ours a SIGTERM would end the turns, and nothing else."""
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    with pytest.raises(RuntimeError, match="SIGUSR1"):
        turns.runtime.drain_on(signal.SIGUSR1)
