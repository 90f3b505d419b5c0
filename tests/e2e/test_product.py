"""The product as a user meets it: `lastword up`, a question, the dashboard in a real browser, SQL, and a clean end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import expect, sync_playwright

from tests.support.pages import ARTIFACTS, CHROMIUM, CHROMIUM_ARGS, IDLE
from tests.support.product import ROOT, Product, free_port, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

QUESTION = "why is my stream partial?"
STAGES = {
    "authMs": "turn.auth",
    "precheckMs": "turn.precheck",
    "conversationContextMs": "turn.context",
    "routeMs": "turn.route",
    "retrievalMs": "retrieval knowledge",
    "agentSetupMs": "turn.agent_setup",
    "streamMs": "turn.stream",
    "postProcessMs": "turn.post_process",
    "finalizeMs": "turn.finalize",
    "totalMs": "turn",
}
"""Stages that are one span, by their key on the wire."""


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    with Product(tmp_path_factory.mktemp("product")) as running:
        yield running


def processes_of(product):
    """Processes that were started for this product, by its data folder in their environment."""
    mark = f"LASTWORD_DATA_DIR={product.folder / 'data'}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if mark in (entry / "environ").read_bytes() and b"\0Z" not in (entry / "stat").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def test_question_is_answered_from_the_docs_and_stored_within_seconds(product):
    """`lastword ask` streams an answer with sources; within 5 s the turn can be queried, and its spans equal its record."""
    asked = product.run("ask", QUESTION, "--json")
    assert asked.returncode == 0, asked.stderr
    events = [json.loads(line) for line in asked.stdout.splitlines()]
    assert [events[0]["type"], events[-1]["type"]] == ["ack", "done"]
    done = events[-1]["metadata"]
    assert "partial when a person saw text" in done["answer"]
    assert any(url.endswith("/docs/partial-streams.md") for url in done["sources"])
    assert httpx2.get(done["sources"][0], trust_env=False).text.startswith("# ")

    turn_id = events[0]["turnId"]

    def whole_tree():
        found = product.sql("select name, duration_ms from spans where turn_id = ? and name <> 'turn.deliver'", [turn_id])
        return dict(found) if set(STAGES.values()) <= {name for name, _ in found} else None

    spans = wait_for(whole_tree, 30, "the turn's spans are stored")
    timings = done["stageTimings"]
    assert {key: spans[name] for key, name in STAGES.items()} == {key: timings[key] for key in STAGES}
    row = wait_for(
        lambda: product.sql(
            "select completion_status, first_token_ms, total_ms, sources from turns where turn_id = ? and terminal = 'done'",
            [turn_id],
        ),
        30,
        "the turn's record is stored",
    )
    assert row == [["success", timings["firstTokenMs"], timings["totalMs"], done["sources"]]]

    printed = product.run("sql", "select turn_id, completion_status, first_token_ms from turns")
    assert printed.returncode == 0
    assert turn_id in printed.stdout


def test_fault_is_a_partial_turn_with_its_reason(product):
    """A cut on purpose: exit status 1, a partial row, and the reason in the terminal's own words."""
    asked = product.run("ask", QUESTION, "--fault", "cut_after_text")
    assert asked.returncode == 1
    assert "interrupted (partial), provider_error" in asked.stdout
    assert wait_for(lambda: product.sql("select turn_id from turns where broken and reason = 'provider_error'"), 5, "the row")


def test_demo_counts_agree_between_client_service_and_store(product):
    """Every turn of the demo has one terminal, and every terminal one row, whatever went wrong on purpose."""
    before = product.sql("select count(*) from turns")[0][0]
    out = product.folder / "demo.json"
    demo = product.run("demo", "--turns", "40", "--rate", "20", "--faults", "0.4", "--seed", "3", "--json", str(out))
    assert demo.returncode == 0, demo.stderr
    counts = json.loads(out.read_text())
    assert (counts["terminals"], counts["broken"]) == (40, {})
    wait_for(lambda: product.sql("select count(*) from turns")[0][0] == before + 40, 30, "all rows are stored")
    stored = dict(
        product.sql(
            "select coalesce(completion_status, 'error'), count(*) from turns where list_contains(?, turn_id) group by 1",
            [counts["turnIds"]],
        )
    )
    assert stored == counts["byStatus"]
    assert product.sql("select count(*) - count(distinct turn_id) from turns") == [[0]]
    metrics = httpx2.get(f"{product.service}/metrics", trust_env=False).text
    ended = sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith("lastword_turns_total{"))
    assert ended == before + 40


@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no {CHROMIUM}")
def test_browser_asks_opens_the_turn_and_sees_waterfall_and_record(product):
    """A browser reads the stream of a question, then finds the turn on the Overview, and its waterfall and record behind it."""
    ARTIFACTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGS))
        page = browser.new_context(viewport={"width": 1440, "height": 1400}).new_page()
        page.set_default_timeout(20_000)
        page.goto(f"{product.service}/try")
        stream = page.evaluate(
            """async (message) => {
                const response = await fetch('/v1/turns', {method: 'POST', headers: {'Content-Type': 'application/json'},
                    body: JSON.stringify({message})});
                return [response.headers.get('turn-id'), await response.text()];
            }""",
            QUESTION,
        )
        turn_id, text = stream
        assert text.count("event: done\n") == 1
        page.goto(product.dashboard)
        link = page.get_by_role("link", name=turn_id[:12]).first
        link.wait_for()
        page.locator(IDLE).wait_for()
        page.screenshot(path=ARTIFACTS / "product-overview.png", full_page=True)
        link.click()
        page.wait_for_url("**/turn?*")
        expect(page.get_by_text(turn_id).first).to_be_visible()
        expect(page.get_by_text("first visible token").first).to_be_attached()
        expect(page.get_by_text("Does the record agree with the trace?")).to_be_visible()
        expect(page.get_by_text("values agree; times within 5 ms")).to_be_visible()
        expect(page.get_by_text("streamedSha256").first).to_be_visible()
        page.locator(IDLE).wait_for()
        page.screenshot(path=ARTIFACTS / "product-turn.png", full_page=True)
        browser.close()


def test_taken_port_is_named_before_anything_starts(product):
    """A second product on the same ports says which port is taken, and starts nothing."""
    second = product.run("up")
    assert second.returncode == 1
    assert "LASTWORD_COLLECTOR_PORT" in second.stdout
    assert "starting" not in second.stdout


def test_ctrl_c_stops_everything_and_keeps_the_last_record(tmp_path):
    """The signal of Ctrl-C while a turn streams: it gets its terminal, which is stored, and no process is left."""
    with Product(tmp_path) as product:
        body = {"message": QUESTION, "metadata": {"fault": "stall"}}
        with httpx2.stream("POST", f"{product.service}/v1/turns", json=body, timeout=30, trust_env=False) as response:
            pieces = response.iter_text()
            read = next(pieces)
            while "event: chunk" not in read:
                read += next(pieces)
            product.process.send_signal(signal.SIGINT)
            read += "".join(pieces)
        assert '"reason":"server_shutdown"' in read
        assert product.process.wait(30) == 0
        wait_for(lambda: not processes_of(product), 30, "no process is left")
    with Product(tmp_path) as again:
        assert wait_for(
            lambda: again.sql("select count(*) from turns where reason = 'server_shutdown'") == [[1]], 30, "the record"
        )


def test_killed_supervisor_leaves_no_process(tmp_path):
    """`kill -9` of `lastword up`: its programs notice, and end."""
    product = Product(tmp_path)
    product.__enter__()
    assert len(processes_of(product)) >= 4
    product.process.kill()
    product.process.wait(10)
    wait_for(lambda: not processes_of(product), 30, "no process is left")


def test_killed_make_leaves_no_process(tmp_path):
    """`kill -9` of what started `lastword up --follow-parent`, as make does: everything ends."""
    product = Product(tmp_path)
    command = f"{sys.executable} -m lastword.cli.main up --follow-parent & wait"
    with product.log_path.open("wb") as log:
        shell = subprocess.Popen(
            ["bash", "-c", command], cwd=ROOT, env=product.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
    wait_for(lambda: "Lastword is up" in product.log, 60, "the product is up")
    shell.kill()
    shell.wait(10)
    wait_for(lambda: not processes_of(product), 30, "no process is left")
    assert "stopped" in product.log


def test_service_goes_on_without_its_collector(tmp_path):
    """With the collector gone turns are answered, and their records arrive once it is back."""
    port = free_port()
    environment = {
        **os.environ,
        "LASTWORD_DATA_DIR": str(tmp_path),
        "LASTWORD_SERVICE_PORT": str(free_port()),
        "LASTWORD_COLLECTOR_PORT": str(port),
        "LASTWORD_COLLECTOR_GRPC_PORT": "0",
        "LASTWORD_SERVICE_COLLECTOR_URL": f"http://127.0.0.1:{port}",
        "LASTWORD_SERVICE_PACE_MS": "0",
    }
    url = f"http://127.0.0.1:{environment['LASTWORD_SERVICE_PORT']}"
    python = [sys.executable, "-m"]
    service = subprocess.Popen([*python, "service"], cwd=ROOT, env=environment)
    collector = None
    try:
        wait_for(lambda: _ready(url), 60, "the service is ready")
        for _ in range(3):
            text = httpx2.post(f"{url}/v1/turns", json={"message": QUESTION}, timeout=30, trust_env=False).text
            assert "event: done" in text
        collector = subprocess.Popen([*python, "collector"], cwd=ROOT, env=environment)
        sql = f"http://127.0.0.1:{port}"
        wait_for(lambda: _ready(sql), 60, "the collector is ready")

        def rows():
            body = {"sql": "select count(*) from turns where terminal = 'done'"}
            return httpx2.post(f"{sql}/v1/sql", json=body, trust_env=False).json()["rows"] == [[3]]

        wait_for(rows, 60, "all records arrive")
    finally:
        for process in filter(None, (service, collector)):
            process.terminate()
            process.wait(20)


def _ready(url):
    try:
        return httpx2.get(f"{url}/health/ready", timeout=2, trust_env=False).status_code == 200
    except httpx2.HTTPError:
        time.sleep(0.1)
        return False
