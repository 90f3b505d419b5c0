"""Keys, scopes, limits and usage, in real service processes and through the command line."""

import json
import os
import subprocess
import sys

import pytest

from tests.integration.service.test_http import PROBLEM, turn_of
from tests.support.postgres import PROGRAMS, postgres
from tests.support.product import ROOT, wait_for
from tests.support.service import QUESTION, Service


def keys(folder, *arguments, status=0, **environment):
    """What `lastword keys …` prints on the database of a folder."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LASTWORD_")}
    done = subprocess.run(
        [sys.executable, "-m", "lastword.cli.main", "keys", *arguments],
        cwd=ROOT,
        env={**clean, "LASTWORD_DATA_DIR": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout if status == 0 else done.stderr


def bearer(key):
    return {"authorization": f"Bearer {key.strip()}"}


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request):
    """The environment of a service on one database or the other."""
    if request.param == "sqlite":
        yield {}
        return
    if not PROGRAMS:
        pytest.skip("no PostgreSQL server below /usr/lib/postgresql")
    with postgres() as url:
        yield {"LASTWORD_SERVICE_DATABASE_URL": url}


def test_key_works_at_once_and_stops_when_revoked(tmp_path, database):
    """Made, used, listed and revoked while the service runs; usage is counted and outlives the process."""
    service = Service(tmp_path, LASTWORD_SERVICE_KEY_CACHE_S="0.2", **database)
    assert service.ask().status_code == 200  # on loopback, without any key
    made = json.loads(keys(tmp_path, "create", "--name", "web", "--json", **database))
    wait_for(lambda: service.ask().status_code == 401, 20, "the first key closes the service")
    mine = service.ask(headers=bearer(made["key"]))
    usage = turn_of(mine)[-1].metadata.usage
    assert service.http.get(f"/v1/turns/{mine.headers['turn-id']}", headers=bearer(made["key"])).status_code == 200
    assert made["key"] not in keys(tmp_path, "list", **database)
    listed = json.loads(keys(tmp_path, "list", "--json", **database))
    assert [(key["prefix"], key["state"], key["lastUsedAt"] is None) for key in listed] == [(made["prefix"], "active", False)]
    assert "is revoked" in keys(tmp_path, "revoke", made["prefix"], **database)
    wait_for(lambda: service.ask(headers=bearer(made["key"])).status_code == 401, 20, "the key stops")
    assert service.stop() == 0
    rows = json.loads(keys(tmp_path, "usage", "--json", "--key", made["prefix"], **database))
    assert [(row["name"], row["turns"]) for row in rows] == [("web", 1)]
    assert (rows[0]["inputTokens"], rows[0]["outputTokens"]) == (
        usage.input_tokens + usage.cache_read_tokens + usage.cache_write_tokens,
        usage.output_tokens,
    )
    assert "without a key" in keys(tmp_path, "usage", **database)


def test_rate_is_exact_over_two_processes(tmp_path, database):
    """Two services on one database share the bucket; a refused question is a problem that says when to come back."""
    key = keys(tmp_path, "create", "--name", "slow", "--rate", "5", **database)
    services = [Service(tmp_path, **database) for _ in range(2)]
    responses = [services[number % 2].ask("2+2", headers=bearer(key)) for number in range(8)]
    refused = [response for response in responses if response.status_code == 429]
    assert [response.status_code for response in responses].count(200) == 5
    assert len(refused) == 3
    for response in refused:
        assert response.headers["content-type"] == PROBLEM
        assert 1 <= int(response.headers["retry-after"]) <= 12
        assert len(response.json()["traceId"]) == 32
    assert [service.stop() for service in services] == [0, 0]


def test_quota_refuses_once_it_is_used_up(tmp_path):
    """The turn that crosses the quota ends as it would; the next one is refused until midnight."""
    key = keys(tmp_path, "create", "--name", "small", "--tokens-per-day", "1")
    service = Service(tmp_path)
    first = service.ask(headers=bearer(key) | {"idempotency-key": "k"})
    assert turn_of(first)[-1].metadata.completion_status == "success"
    refused = service.ask(headers=bearer(key))
    assert (refused.status_code, int(refused.headers["retry-after"]) <= 86_400) == (429, True)
    again = service.ask(headers=bearer(key) | {"idempotency-key": "k"})
    assert (again.status_code, again.content) == (200, first.content)
    assert service.stop() == 0


def test_scopes_are_enforced_and_wishes_ignored_without_them(tmp_path):
    """403 for what a key may not do; a wish that it may not have is as if it were not there."""
    made = {
        scopes: keys(tmp_path, "create", "--name", scopes, *(part for scope in scopes.split() for part in ("--scope", scope)))
        for scopes in ("ask", "read", "ask route", "ask tier")
    }
    service = Service(tmp_path)
    turn = service.ask(headers=bearer(made["ask"]))
    path = f"/v1/turns/{turn.headers['turn-id']}"
    for response in (
        service.ask(headers=bearer(made["read"])),
        service.http.get(path, headers=bearer(made["ask"])),
        service.http.get(f"{path}/events", headers=bearer(made["ask"])),
        service.http.get(f"/v1/conversations/{turn_of(turn)[0].conversation_id}", headers=bearer(made["ask"])),
        service.http.post(f"{path}/cancel", headers=bearer(made["read"])),
    ):
        assert (response.status_code, response.headers["content-type"]) == (403, PROBLEM)
    assert service.http.post(f"{path}/cancel", headers=bearer(made["ask"])).status_code == 200
    assert service.http.get(path, headers=bearer(made["read"])).status_code == 404  # another caller's
    usual = turn_of(turn)[0]
    routes = service.http.get("/.well-known/turn-contract").json()["routes"]
    other = next(name for name in routes if name != usual.route)
    wish = {"route": other, "modelTier": "fast"}
    asked = {
        scopes: turn_of(service.ask(QUESTION, headers=bearer(made[scopes]), **wish))[0] for scopes in made if "ask" in scopes
    }
    assert (asked["ask"].route, asked["ask"].model_tier) == (usual.route, usual.model_tier)
    assert asked["ask route"].route == other
    assert (asked["ask tier"].route, asked["ask tier"].model_tier) == (usual.route, "fast")
    assert service.stop() == 0


def test_beyond_loopback_a_usable_key_is_needed(tmp_path):
    """Without one the start is refused with what to do; an expired or revoked one does not help, a static one does."""
    command = [sys.executable, "-m", "service"]
    env = {**os.environ, "LASTWORD_DATA_DIR": str(tmp_path), "LASTWORD_SERVICE_HOST": "0.0.0.0"}
    made = json.loads(keys(tmp_path, "create", "--name", "web", "--json"))
    keys(tmp_path, "revoke", made["prefix"])
    refused = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert refused.returncode == 2
    assert "lastword keys create" in refused.stderr
    assert "Traceback" not in refused.stderr
    keys(tmp_path, "create", "--name", "web")
    service = Service(tmp_path, LASTWORD_SERVICE_HOST="0.0.0.0")
    assert service.ask().status_code == 401
    assert service.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("revoke", "lwk_000000000000"), "there is no key lwk_000000000000"),
        (("revoke", "web"), "prefix"),
        (("usage", "--key", "nope"), "there is no key"),
        (("create", "--name", " "), "a name has"),
        (("create", "--name", "x", "--scope", "admin"), "admin"),
        (("create", "--name", "x", "--rate", "0"), "--rate"),
        (("create", "--name", "x", "--expires", "soon"), "30d"),
        (("create",), "--name"),
    ],
)
def test_wrong_command_says_what_is_wrong(tmp_path, arguments, words):
    """Status 2 and a sentence, never a traceback."""
    said = keys(tmp_path, *arguments, status=2)
    assert words in said
    assert "Traceback" not in said


def test_database_that_cannot_be_used_is_one_line(tmp_path):
    """And the password of its URL is not in it."""
    said = keys(
        tmp_path, "list", status=2, LASTWORD_SERVICE_DATABASE_URL="postgresql+psycopg://lastword:hunter2@127.0.0.1:1/lastword"
    )
    assert said.startswith("keys: the database cannot be used")
    assert "hunter2" not in said
    assert "Traceback" not in said
