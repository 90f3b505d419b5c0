"""The dashboard as a program with a collector, and what tests do with its pages in a real browser. Screenshots land in artifacts/."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from collector.synthetic.world import SyntheticTurn
from tests.support.product import answers, free_port, wait_for

expect.set_options(timeout=40_000)  # the machine may be busy with other tests

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "artifacts"
CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
IDLE = '[data-test-script-state="notRunning"]'
LATE = re.compile("took too long|is busy")
AXE_RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
NOT_OURS = (
    "[class*=_brush]",  # what Vega draws under a drag; the chart as a whole has its sentence
)
AXE_RUN = """({rules, exclude}) => axe.run({exclude: exclude.map((one) => [one])}, {runOnly: rules, resultTypes: ["violations"]}).then(
    (result) => result.violations.map((each) => `${each.id}: ${each.help}: ${each.nodes[0].html.slice(0, 200)}`))"""


class Program:
    """One of the product's programs as a child process."""

    def __init__(self, module: str, ready: str, **environment: str) -> None:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("LASTWORD_", "STREAMLIT_"))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env={**clean, "LASTWORD_COLLECTOR_GRPC_PORT": "0", **environment},
            stdin=subprocess.DEVNULL,
        )
        wait_for(lambda: answers(ready), 60, f"{module} did not start")

    def stop(self) -> int:
        """Ends it as an operator does; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@dataclass
class Stack:
    """A collector and a dashboard that reads it."""

    collector_url: str
    url: str
    collector: Program
    dashboard: Program
    turns: list[SyntheticTurn] = field(default_factory=list)
    made_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    """What its turns end at."""


def start(folder: Path, *, port: int = 0, **environment: str) -> Stack:
    """A collector and a dashboard on a folder, with further settings; each gets its own."""
    collector_port, port = free_port(), port or free_port()
    collector_url, url = f"http://127.0.0.1:{collector_port}", f"http://127.0.0.1:{port}"
    collector = Program(
        "collector",
        f"{collector_url}/v1/status",
        LASTWORD_COLLECTOR_PORT=str(collector_port),
        LASTWORD_DATA_DIR=str(folder),
        LASTWORD_COLLECTOR_DASHBOARD_URL=url,
        **{name: value for name, value in environment.items() if name.startswith("LASTWORD_COLLECTOR_")},
    )
    dashboard = Program(
        "dashboard",
        f"{url}/_stcore/health",
        LASTWORD_DASHBOARD_PORT=str(port),
        LASTWORD_DATA_DIR=str(folder),
        LASTWORD_DASHBOARD_COLLECTOR_URL=collector_url,
        **{name: value for name, value in environment.items() if name.startswith("LASTWORD_DASHBOARD_")},
    )
    return Stack(collector_url, url, collector, dashboard)


def visit(page: Page, address: str, *, shows: str) -> None:
    """Opens an address and waits until the page stands still with what it should show."""
    page.goto(address)
    page.locator(shows).first.wait_for()
    page.locator(IDLE).wait_for()
    expect(page.locator('[data-testid="stSkeleton"]')).to_have_count(0)


def expect_none_failed(page: Page) -> None:
    """No panel failed. Where a query took too long, because other work keeps the machine busy, it is asked once more, as a person would."""
    failed = page.locator('[class*="st-key-failed-"]')
    if failed.filter(has_text=LATE).count():
        page.get_by_role("button", name="Retry").first.click()
        page.locator(IDLE).wait_for()
    expect(failed, "; ".join(failed.all_inner_texts())).to_have_count(0)


def keep(page: Page, name: str) -> None:
    """A screenshot of the whole page: Streamlit scrolls inside, so the window grows first."""
    ARTIFACTS.mkdir(exist_ok=True)
    size = page.viewport_size
    assert size is not None
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": max(size["height"], height + 20)})
    page.locator(IDLE).wait_for()
    page.screenshot(path=ARTIFACTS / f"{name}.png")
    page.set_viewport_size(size)


def drag(page: Page, box: Any, start: tuple[float, int], end: tuple[float, int]) -> None:
    """Drags over a box: places are shares of its width and pixels below its top."""
    (x, y), (to_x, to_y) = ((box["x"] + box["width"] * share, box["y"] + px) for share, px in (start, end))
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move((x + to_x) / 2, (y + to_y) / 2, steps=5)  # a drag is a movement: a jump to its end would be none
    page.mouse.move(to_x, to_y, steps=5)
    page.mouse.up()


def query(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    wider: int = page.evaluate(
        "(() => { const main = document.querySelector('[data-testid=stMain]'); return main.scrollWidth - main.clientWidth; })()"
    )
    return wider


def inaccessible(page: Page, axe: str) -> list[str]:
    """What keeps people out, by WCAG 2.2 A and AA and axe's best practices: the rule, what it says, and the first element that breaks it."""
    page.evaluate(axe)
    found: list[str] = page.evaluate(AXE_RUN, {"rules": AXE_RULES, "exclude": NOT_OURS})
    return found


def is_foreign(url: str) -> bool:
    return not url.startswith(("data:", "blob:")) and urlsplit(url).hostname != "127.0.0.1"
