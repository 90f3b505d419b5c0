"""Makes the pictures of the documentation from a real run: `make screenshots`, or `python -m docs.screenshots try` for one of them.

Starts the product on free ports in a temporary folder, sends demo traffic with faults, and photographs the pages in Debian's Chromium.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from tests.support.product import Product

IMAGES = Path(__file__).parent / "img"
CHROMIUM = "/usr/bin/chromium"
IDLE = '[data-test-script-state="notRunning"]'
TURNS, RATE, FAULTS = "1150", "2.1", "0.09"  # about nine minutes, so that there is something to see over time


def photograph(page: Page, url: str, shows: str, name: str, height: int) -> None:
    """One page, from its top, `height` pixels high."""
    page.set_viewport_size({"width": 1440, "height": height})
    page.goto(url)
    page.get_by_text(shows).first.wait_for()
    page.locator(IDLE).wait_for()
    page.wait_for_timeout(1500)  # charts draw themselves after the script has ended
    page.screenshot(path=IMAGES / name)
    print(f"wrote docs/img/{name}")


def photograph_try(page: Page, product: Product) -> None:
    """A question that was answered whole, with its sources and timings."""
    page.set_viewport_size({"width": 1440, "height": 1000})
    page.goto(f"{product.service}/try")
    page.get_by_label("Your question").fill("Why is my stream partial?")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text("Answered in full").first.wait_for()
    page.wait_for_timeout(500)
    page.screenshot(path=IMAGES / "try.png")
    print("wrote docs/img/try.png")


def photograph_dashboard(page: Page, product: Product) -> None:
    """The Overview after nine minutes of traffic with faults, and a turn that broke."""
    done = product.run("demo", "--turns", TURNS, "--rate", RATE, "--faults", FAULTS, timeout_s=900)
    print(done.stdout)
    rows = product.sql(
        "select turn_id from turns where broken and attempts > 1 and tool_calls_count > 0 order by total_ms desc limit 1"
    ) or product.sql(
        "select turn_id from turns where broken and tool_calls_count > 0 order by attempts desc, total_ms desc limit 1"
    )
    print(json.dumps(rows))
    photograph(page, f"{product.dashboard}/?window=15m", "Where the time goes", "overview.png", 1330)
    photograph(page, f"{product.dashboard}/turn?id={rows[0][0]}", "Span tree", "turn.png", 1250)


PICTURES = {"try": photograph_try, "dashboard": photograph_dashboard}


def main() -> None:
    """Runs the product and takes the pictures that are named, or all."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Product(Path(folder)) as product, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        )
        page = browser.new_page(device_scale_factor=1.5)
        for name in sys.argv[1:] or PICTURES:
            PICTURES[name](page, product)
        browser.close()


if __name__ == "__main__":
    main()
