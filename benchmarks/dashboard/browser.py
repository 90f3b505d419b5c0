"""What is measured in the browser: from an event until the page stands still with what it should show.

A script inside of the page notes the last pointer that was lifted and the last change of what is seen; the freshness badge, which changes on its own, is left out. Invariant: a page
whose script still runs, that shows a skeleton or a failed panel, or in which something changed less than QUIET_MS ago, is not done.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Page, sync_playwright
from playwright.sync_api import TimeoutError as TooLong

CHROMIUM = "/usr/bin/chromium"
CHROMIUM_ARGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
)
QUIET_MS = 400
LOOK_MS = 50
DONE_S = 120

_WATCH = """
(() => {
  const seen = window.seen = {acted: 0, ran: 0, changed: 0, state: ""};
  addEventListener("pointerup", () => { seen.acted = performance.now(); seen.ran = 0; }, true);
  const ours = (node) => {
    const element = node.nodeType === 1 ? node : node.parentElement;
    return element && !element.closest(".st-key-freshness, [data-testid=stStatusWidget], [data-testid=stToolbar], [data-testid=stHeader]");
  };
  new MutationObserver((changes) => {
    const app = document.querySelector("[data-test-script-state]");
    const state = app ? app.dataset.testScriptState : "";
    if (state !== seen.state) {
      seen.state = state;
      if (state === "running") seen.ran = performance.now();
      else seen.changed = performance.now();
    }
    if (changes.some((change) => change.type !== "attributes" && ours(change.target))) seen.changed = performance.now();
  }).observe(document, {subtree: true, childList: true, characterData: true, attributes: true, attributeFilter: ["data-test-script-state"]});
})()
"""
_DONE = """
([wanted, quiet, acted]) => {
  const at = performance.now();
  if (acted && !seen.ran) return null;
  if (seen.state !== "notRunning" || at - seen.changed < quiet) return null;
  if (document.querySelector("[data-testid=stSkeleton], [data-stale=true]")) return null;
  if (document.querySelector("[class*='st-key-failed-']")) return {failed: true};
  if (!wanted.every((each) => document.querySelector(each))) return null;
  return {took: seen.changed - (acted ? seen.acted : 0)};
}
"""


class NotDrawn(RuntimeError):
    """A panel failed, or the page did not come to rest."""


@contextmanager
def opened() -> Iterator[Page]:
    """A page of a new browser of 1440 pixels, that notes what changes."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGS))
        context = chromium.new_context(viewport={"width": 1440, "height": 1000})
        context.set_default_timeout(DONE_S * 1000)
        context.add_init_script(_WATCH)
        yield context.new_page()
        chromium.close()


def rest_ms(page: Page, *wanted: str, acted: bool) -> float:
    """Waits until the page shows all that is wanted and stands still: milliseconds since the last pointer was lifted, or else since the address was opened.

    Raises:
        NotDrawn: a panel failed, or the page does not come to rest; the message says what is missing.
    """
    try:
        handle = page.wait_for_function(_DONE, arg=[list(wanted), QUIET_MS, acted], timeout=DONE_S * 1000, polling=LOOK_MS)
    except TooLong as error:
        missing = [each for each in wanted if not page.locator(each).count()]
        raise NotDrawn(
            f"{page.url} does not come to rest within {DONE_S} s: missing {missing}, {page.evaluate('JSON.stringify(seen)')}"
        ) from error
    result = handle.json_value()
    if result.get("failed"):
        raise NotDrawn(f"a panel failed at {page.url}: {page.locator('[class*=st-key-failed-]').first.inner_text()}")
    return float(result["took"])
