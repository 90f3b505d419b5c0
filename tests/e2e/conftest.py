"""A real browser, and axe-core to look for barriers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.built import from_npm
from tests.support.pages import CHROMIUM, CHROMIUM_ARGS


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"no {CHROMIUM}")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGS))
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 1000}, timezone_id="Europe/Zurich")
    context.set_default_timeout(60_000)  # the machine may be busy with other tests
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The text of axe-core, which is run inside of a page."""
    folder = from_npm("e2e", Path(__file__).with_name("package.json"))
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")
