"""Makes the pictures of the documentation from a real run: `make screenshots`, or `python -m docs.screenshots try` for one of them.

Starts the product on free ports in a temporary folder, sends demo traffic with faults, and photographs the pages in Debian's Chromium.
"""

from __future__ import annotations

import json
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode, urlsplit

from playwright.sync_api import Browser, FloatRect, Page, sync_playwright

from tests.support.product import Product

IMAGES = Path(__file__).parent / "img"
ALL = Path(__file__).resolve().parents[1] / "artifacts" / "pages"
CHROMIUM = "/usr/bin/chromium"
IDLE = '[data-test-script-state="notRunning"]'
TURNS, RATE, FAULTS = "3000", "4", "0.03"  # about twelve minutes, so that there is something to see over time
INCIDENT = ("--break", "^(how|explain|tell)", "--break-after", "240", "--break-for", "200")
HEIGHT = 1900  # of a picture of the documentation at most: below it are long tables
SIZES: tuple[tuple[int, Literal["light", "dark"]], ...] = ((1440, "light"), (1440, "dark"), (390, "light"), (390, "dark"))


def whole_page(page: Page, url: str, shows: str) -> None:
    """Opens a page, waits until all of it is drawn, and makes the window as high as it is."""
    size = page.viewport_size
    assert size is not None
    page.set_viewport_size({"width": size["width"], "height": 900})
    page.goto(url)
    page.locator(shows).first.wait_for()
    page.locator(IDLE).wait_for()
    page.wait_for_timeout(2500)  # charts draw themselves after the script has ended
    height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
    page.set_viewport_size({"width": size["width"], "height": max(900, height + 10)})
    page.locator(IDLE).wait_for()
    page.wait_for_timeout(1000)


def photograph_try(browser: Browser, product: Product) -> None:
    """A question that was answered whole, with its sources and timings."""
    page = browser.new_page(device_scale_factor=1.5, viewport={"width": 1440, "height": 1000})
    page.goto(f"{product.service}/try")
    page.get_by_label("Your question").fill("Why is my stream partial?")
    page.get_by_role("button", name="Ask", exact=True).click()
    page.get_by_text("Answered in full").first.wait_for()
    page.wait_for_timeout(500)
    page.screenshot(path=IMAGES / "try.png")
    print("wrote docs/img/try.png")


def addresses(product: Product) -> dict[str, tuple[str, str]]:
    """The pages of the dashboard after an incident: the address of each, and what is there when it is drawn."""
    first, last = product.sql("select epoch(min(ended_at)), epoch(max(ended_at)) from turns")[0]
    stamps = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}" for at in (first - 15, last + 15))
    window = urlencode(dict(zip(("window", "from", "to"), ("custom", *stamps), strict=True)))
    turn = product.sql(
        "select turn_id from turns where broken and sources_count > 2 order by tool_calls_count desc, stream_ms desc limit 1"
    )[0][0]
    told = product.sql(
        "select alert_id, link from alerts where rule = 'partial_rate' and role = 'root' order by evidence desc limit 1"
    )
    print(json.dumps({"window": window, "turn": turn, "alert": told}))
    if not told:
        raise SystemExit("the incident fired no alert: `lastword alerts list`, and the log of the collector, say why")
    alert, link = told[0]
    asked = "select time_bucket(interval 1 minute, ended_at) as minute, count(*) filter (broken) as broken, count(*) as turns from turns group by minute order by minute"
    return {
        "overview": (f"/?{window}", ".lw-turns"),
        "partials": (f"/partials?{urlsplit(link).query}", ".lw-turns"),
        "stages": (f"/stages?{window}", ".st-key-panel-box .lw-table"),
        "evidence": (f"/evidence?{window}", ".st-key-panel-hosts .lw-table"),
        "turns": (f"/turns?{window}&pick=broken", ".lw-turns"),
        "turn": (f"/turn?id={turn}", ".lw-timeline"),
        "sql": (f"/sql?{urlencode({'sql': asked})}", ".lw-result"),
        "alerts": (f"/alerts?{window}&alert={alert}", ".st-key-panel-episode .lw-meter"),
        "pipeline": (f"/pipeline?{window}", ".st-key-panel-gaps .lw-table"),
    }


def photograph_dashboard(browser: Browser, product: Product) -> None:
    """Every page after twelve minutes of traffic with faults and an incident: in light and dark, wide and narrow. The wide light ones are those of the documentation."""
    done = product.run("demo", "--turns", TURNS, "--rate", RATE, "--faults", FAULTS, *INCIDENT, timeout_s=1200)
    print(done.stdout)
    pages = addresses(product)
    for width, scheme in SIZES:
        documented = (width, scheme) == SIZES[0]
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page = context.new_page()
        for name, (address, shows) in pages.items():
            whole_page(page, f"{product.dashboard}{address}", shows)
            path = IMAGES / f"{name}.png" if documented else ALL / f"{name}-{scheme}-{width}.png"
            shown = page.viewport_size
            assert shown is not None
            clip: FloatRect = {"x": 0, "y": 0, "width": width, "height": min(HEIGHT, shown["height"])}
            page.screenshot(path=path, clip=clip if documented else None)
            print(f"wrote {path.relative_to(IMAGES.parents[1])}")
        context.close()


PICTURES = {"try": photograph_try, "dashboard": photograph_dashboard}


def main() -> None:
    """Runs the product and takes the pictures that are named, or all."""
    IMAGES.mkdir(exist_ok=True)
    ALL.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, Product(Path(folder)) as product, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        )
        for name in sys.argv[1:] or PICTURES:
            PICTURES[name](browser, product)
        browser.close()


if __name__ == "__main__":
    main()
