"""An incident from the outside: one route of a running product starts to cut its streams, somebody is woken once, finds the episode, and is told when it is over."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.support.alertmanager import RealAlertmanager
from tests.support.pages import ARTIFACTS, CHROMIUM, CHROMIUM_ARGS, visit
from tests.support.product import ROOT, Product, wait_for

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not RealAlertmanager.there(), reason="no prometheus-alertmanager: install Debian's package"),
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no {CHROMIUM}"),
]

ROUTE = "knowledge"
QUESTIONS = "^(how|explain|tell)"
"""Finds the demo's questions that take this route."""
RATE = 3
BEFORE_S, BROKEN_S, AFTER_S = 100, 170, 420
TOLD_S = 300
RESOLVED_S = 480
"""The fault's end to the alert's: it lasts at least five minutes from its firing."""


def pages(alertmanager):
    """The pages that fire and are not held back."""
    return [one for one in alertmanager.alerts("active") if one["labels"]["severity"] == "page"]


def test_a_route_that_cuts_its_streams_is_one_page_with_a_link_that_shows_it(tmp_path):
    """Within five minutes one alert names the route; the dashboard shows the episode; the link opens Partials on its window; it resolves after the fault."""
    with (
        RealAlertmanager(tmp_path / "alertmanager") as alertmanager,
        Product(tmp_path, LASTWORD_COLLECTOR_ALERTS_ALERTMANAGER_URL=alertmanager.url) as product,
    ):
        demo = subprocess.Popen(
            [
                *(
                    sys.executable,
                    "-m",
                    "lastword.cli.main",
                    "demo",
                    "--turns",
                    str(RATE * (BEFORE_S + BROKEN_S + AFTER_S)),
                ),
                *("--rate", str(RATE), "--break", QUESTIONS, "--break-after", str(BEFORE_S), "--break-for", str(BROKEN_S)),
            ],
            cwd=ROOT,
            env=product.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        began = time.monotonic() + BEFORE_S
        try:
            time.sleep(BEFORE_S)  # nothing is to fire in this time, and nothing can be waited for
            assert pages(alertmanager) == []
            (page,) = wait_for(lambda: pages(alertmanager), TOLD_S, "a page", pause_s=2)
            assert time.monotonic() - began < TOLD_S
            assert (page["labels"]["alertname"], page["labels"]["route"]) == ("LastwordPartialRate", ROUTE)
            assert page["labels"]["role"] == "root"
            look(page, product)
            remaining = began + BROKEN_S + RESOLVED_S - time.monotonic()
            wait_for(lambda: not pages(alertmanager), remaining, "the alert resolves", pause_s=5)
            assert time.monotonic() > began + BROKEN_S
            rows = product.sql("select route, state, why_resolved from alerts where severity = 'page' and role = 'root'")
            assert rows == [[ROUTE, "resolved", "recovered"]]
            listed = product.run("alerts", "list")
            assert listed.returncode == 0
            assert f"route {ROUTE}" in listed.stdout
        finally:
            demo.terminate()
            demo.wait(30)


def look(page, product):
    """Follows the link of the message, and finds the episode on the Alerts page."""
    ARTIFACTS.mkdir(exist_ok=True)
    link = page["annotations"]["link"]
    assert link.startswith(f"{product.dashboard}/partials?")
    query = {name: values[0] for name, values in parse_qs(urlsplit(link).query).items()}
    assert query["window"] == "custom"
    assert query["route"] == ROUTE
    ((since,),) = product.sql(
        "select strftime(since_at, '%Y-%m-%dT%H:%M:%SZ') from alerts where severity = 'page' and role = 'root'"
    )
    assert query["from"] < since < query["to"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGS))
        tab = browser.new_context(viewport={"width": 1440, "height": 1400}, timezone_id="Europe/Zurich").new_page()
        tab.set_default_timeout(90_000)
        visit(tab, link, shows=".lw-turns")
        expect(tab.get_by_text(ROUTE).first).to_be_visible()
        tab.screenshot(path=ARTIFACTS / "alert-partials.png", full_page=True)
        visit(tab, f"{product.dashboard}/alerts?window=1h", shows=".st-key-panel-blind h2")
        expect(tab.get_by_text(f"route {ROUTE}").first).to_be_visible()
        tab.screenshot(path=ARTIFACTS / "alert-alerts.png", full_page=True)
        browser.close()
