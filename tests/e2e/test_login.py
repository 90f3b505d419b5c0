"""The dashboard with login on, beside a provider on loopback: who is not on the list sees nothing, by whatever address; who is gets where the link led."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from collector.synthetic.turns import synthesize
from tests.support import oidc
from tests.support.pages import Stack, expect_none_failed, inaccessible, keep, query, start, visit
from tests.support.product import free_port, wait_for
from tests.support.synthetic import post

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

TURNS = 40
LINKS = (
    "/?window=6h",
    "/partials?window=6h",
    "/stages",
    "/evidence",
    "/turns?window=24h",
    "/sql?sql=" + quote("select 'sec' || 'ret' as found"),
    "/alerts",
    "/pipeline",
)


@dataclass
class Guarded:
    """A dashboard that asks who is there, and whom it asks."""

    stack: Stack
    provider: oidc.Provider
    turn_id: str


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    port = free_port()
    with oidc.provider(f"http://127.0.0.1:{port}/oauth2callback") as provider:
        provider.claims["eve@example.com"] = {"email_verified": False}
        stack = start(
            tmp_path_factory.mktemp("guarded"),
            port=port,
            LASTWORD_DASHBOARD_OIDC_ISSUER=provider.issuer,
            LASTWORD_DASHBOARD_OIDC_CLIENT_ID=oidc.CLIENT_ID,
            LASTWORD_DASHBOARD_OIDC_CLIENT_SECRET=oidc.CLIENT_SECRET,
            LASTWORD_DASHBOARD_OIDC_ALLOWED="@example.com, guest@example.org",
        )
        turns = list(synthesize(TURNS, seed=3, hours=0.5))
        post(stack.collector_url, turns)
        yield Guarded(stack, provider, turns[0].accepted.turn_id)
        stack.dashboard.stop()
        stack.collector.stop()


@pytest.fixture
def frames(page: Page) -> list[str]:
    """Everything that the server sends over the page's socket, as far as it is text."""
    found: list[str] = []
    page.on(
        "websocket",
        lambda socket: socket.on(
            "framereceived",
            lambda body: found.append(body if isinstance(body, str) else body.decode("utf-8", errors="replace")),
        ),
    )
    return found


def ask(page: Page) -> None:
    """To the provider."""
    page.get_by_role("button", name="Log in at 127.0.0.1").click()
    page.get_by_label("E-mail").wait_for()


def log_in(page: Page, address: str) -> None:
    """Says at the provider who one is."""
    ask(page)
    page.get_by_label("E-mail").fill(address)
    page.get_by_role("button", name="Continue").click()


def test_nobody_without_a_login_is_sent_a_row_whatever_the_link(
    guarded: Guarded, page: Page, frames: list[str], axe: str
) -> None:
    """Every page's link, a turn's and a query's show the login alone, and nothing else comes over the wire."""
    for link in (*LINKS, f"/turn?id={guarded.turn_id}"):
        page.goto(f"{guarded.stack.url}{link}")
        expect(page.get_by_role("button", name="Log in at 127.0.0.1")).to_be_visible()
        expect(page.locator('[class*="st-key-panel-"], [class*="st-key-filters"], .st-key-nav')).to_have_count(0)
    assert inaccessible(page, axe) == []
    keep(page, "login")
    sent = "".join(frames)
    assert "Log in at" in sent
    assert not [
        word for word in ("secret", guarded.turn_id[4:], "lookup", "smart") if word in sent.replace(oidc.CLIENT_SECRET, "")
    ]


def test_a_login_leads_to_the_address_that_was_opened_and_out_again(guarded: Guarded, page: Page) -> None:
    """The page of the link is shown with the visitor's name; logging out ends the session at the provider too, and the page is closed again."""
    page.goto(f"{guarded.stack.url}/partials?window=6h&tier=smart")
    log_in(page, "ann@example.com")
    page.wait_for_url("**/partials?**")
    page.locator(".st-key-panel-rate").wait_for()
    assert query(page) == {"window": ["6h"], "tier": ["smart"]}
    expect(page.locator(".st-key-visitor")).to_contain_text("Ann")
    expect_none_failed(page)
    visit(page, f"{guarded.stack.url}/turn?id={guarded.turn_id}", shows=".lw-timeline")
    keep(page, "logged-in")
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("button", name="Log in at 127.0.0.1")).to_be_visible()
    # The page shows the login before the browser goes there.
    wait_for(lambda: guarded.provider.ended == 1, 30, "the provider was told")
    page.goto(f"{guarded.stack.url}/turn?id={guarded.turn_id}")
    expect(page.get_by_role("button", name="Log in at 127.0.0.1")).to_be_visible()


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("bob@elsewhere.org", "bob@elsewhere.org"),
        ("eve@example.com", "does not say that the address is verified"),
        ("other@example.org", "other@example.org"),
    ],
)
def test_a_login_that_is_not_on_the_list_shows_nothing(
    guarded: Guarded, page: Page, frames: list[str], address: str, why: str
) -> None:
    """Neither another domain, nor an address that nobody verified, nor another guest of a domain that only one may come from; each is told why."""
    page.goto(f"{guarded.stack.url}/sql?sql={quote('select 41 + 1 as answered_alike')}")
    log_in(page, address)
    expect(page.locator(".st-key-login")).to_contain_text(why)
    expect(page.get_by_role("button", name="Log out")).to_be_visible()
    page.goto(f"{guarded.stack.url}/turn?id={guarded.turn_id}")
    expect(page.locator(".st-key-login")).to_contain_text(why)
    assert not [frame for frame in frames if guarded.turn_id[4:] in frame or "answered_alike" in frame]


def test_an_old_login_has_to_be_renewed(guarded: Guarded, page: Page) -> None:
    """A token that was issued longer ago than a login lasts lets nobody in."""
    guarded.provider.issued_before_s = 13 * 3600
    try:
        page.goto(guarded.stack.url)
        log_in(page, "guest@example.org")
        expect(page.locator(".st-key-login")).to_contain_text("Your login has ended")
    finally:
        guarded.provider.issued_before_s = 0
    log_in(page, "guest@example.org")
    expect(page.locator(".st-key-visitor")).to_contain_text("Guest")


def test_a_forged_cookie_is_no_login(guarded: Guarded, browser: Browser) -> None:
    """A cookie that the dashboard did not sign counts for nothing."""
    context = browser.new_context()
    forged = '{"is_logged_in": true, "email": "ann@example.com", "email_verified": true, "iat": 9999999999}'
    context.add_cookies([{"name": "_streamlit_user", "value": quote(forged), "url": guarded.stack.url}])
    page = context.new_page()
    page.goto(f"{guarded.stack.url}/turns")
    expect(page.get_by_role("button", name="Log in at 127.0.0.1")).to_be_visible(timeout=20_000)
    context.close()


def test_the_secret_of_the_cookies_is_its_owners_alone(guarded: Guarded, tmp_path_factory: pytest.TempPathFactory) -> None:
    """It lies in the data folder, and nobody else on the machine may read it."""
    found = list(Path(tmp_path_factory.getbasetemp()).rglob("dashboard-cookie-secret"))
    assert [oct(path.stat().st_mode & 0o777) for path in found] == ["0o600"]
