"""The pages of the dashboard in a real browser, on a real collector with synthetic turns. Screenshots land in artifacts/."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from collector.synthetic.turns import synthesize
from collector.synthetic.world import INCIDENT, SyntheticTurn
from dashboard.state import preset_view
from lastword import names
from lastword.wire import encode_json
from tests.support.otlp import ended, log_request
from tests.support.pages import (
    IDLE,
    Stack,
    drag,
    expect_none_failed,
    inaccessible,
    is_foreign,
    keep,
    overflow,
    query,
    start,
    visit,
)
from tests.support.synthetic import post

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

PANELS = ("figures", "rate", "routes", "stages", "sources", "tools", "turns")
OTHERS = (
    ("partials", "/partials?window=6h", ".lw-turns"),
    ("stages", "/stages?window=6h", ".st-key-panel-box .lw-table"),
    ("evidence", "/evidence?window=6h", ".st-key-panel-hosts .lw-table"),
    ("pipeline", "/pipeline?window=6h", ".st-key-panel-gaps .lw-table"),
    ("alerts", "/alerts?window=6h", ".st-key-panel-blind h2"),
    ("turns", "/turns?window=6h&pick=broken", ".lw-turns"),
    ("sql", "/sql?sql=" + quote("select route, count(*) as turns from turns group by route"), ".lw-result"),
)
"""Further pages: name, address, and what is there when the page is."""
PLAIN = {name: address.partition("?")[0] if name != "sql" else address for name, address, _ in OTHERS}
"""The same without a window: the last hour."""
TURNS = 1500
HOURS = 5.0
BREAKING = 6000
"""Turns of which one in thirteen falls into an incident."""
ALERT_MS = 75_000
"""A minute is judged a second behind its end; turns wait for theirs at most."""


def spike(made_at: datetime) -> tuple[datetime, datetime]:
    """When the incident that is over began and ended."""
    first, last = (made_at - timedelta(hours=HOURS * (1 - place)) for place in INCIDENT)
    return first, last


def more_about_the_spike(made_at: datetime) -> Iterator[SyntheticTurn]:
    """Further turns of the incident that is over and of as long before it: enough of them that what stands out does so beyond chance."""
    first, last = (at.timestamp() * 1e9 for at in spike(made_at))
    turns = synthesize(2 * BREAKING, seed=5, end=made_at, hours=HOURS)
    yield from (turn for turn in turns if 2 * first - last <= turn.start_ns <= last)


def breaking_now() -> Iterator[SyntheticTurn]:
    """Turns of an incident that began five minutes ago and goes on, all of the smart tier broken: the first minute that is judged makes an alert of it."""
    hours = 1.0
    end = datetime.now(UTC) + timedelta(hours=hours * (1 - INCIDENT[1]))
    since_ns = (end - timedelta(hours=hours * (1 - INCIDENT[0]))).timestamp() * 1e9
    until_ns = datetime.now(UTC).timestamp() * 1e9
    for turn in synthesize(BREAKING, seed=4, end=end, hours=hours):
        broke = turn.done and turn.done.done and turn.done.done.partial
        of_smart = turn.done and turn.done.done and turn.done.done.model_tier == "smart"
        if since_ns <= turn.start_ns and turn.start_ns + turn.root.end <= until_ns and (broke or not of_smart):
            yield turn


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    running = start(tmp_path_factory.mktemp("collector"), LASTWORD_COLLECTOR_ALERTS_SETTLE_S="1")
    turns = synthesize(TURNS, seed=11, end=running.made_at, hours=HOURS)
    running.turns = [*turns, *more_about_the_spike(running.made_at), *breaking_now()]
    post(running.collector_url, running.turns)
    yield running
    running.dashboard.stop()
    running.collector.stop()


def interrupted(stack: Stack) -> str:
    """A turn that was retried, showed text and broke: it has everything that the Turn page can show."""
    return next(
        turn.accepted.turn_id
        for turn in stack.turns
        if turn.done and turn.done.done and turn.done.done.completion_status == "interrupted" and turn.done.done.sources
    )


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_whole_in_every_theme_and_width(browser: Browser, stack: Stack, axe: str, scheme: Any, width: int) -> None:
    """Every panel is drawn, none failed, nothing is wider than the window, axe finds no barrier, and no request leaves for another host."""
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, timezone_id="Europe/Zurich")
    page = context.new_page()
    foreign: list[str] = []
    broken: list[str] = []
    page.on("request", lambda request: foreign.append(request.url) if is_foreign(request.url) else None)
    page.on("pageerror", lambda error: broken.append(str(error)))
    visit(page, f"{stack.url}/?window=6h", shows=".lw-turns")
    for panel in PANELS:
        expect(page.locator(f".st-key-panel-{panel}")).to_be_visible()
    expect(page.locator('[class*="st-key-chart-"] svg.marks').first).to_be_attached()
    expect_none_failed(page)
    assert overflow(page) == 0
    assert inaccessible(page, axe) == []
    keep(page, f"overview-{scheme}-{width}")
    visit(page, f"{stack.url}/turn?id={interrupted(stack)}", shows=".lw-timeline")
    expect_none_failed(page)
    assert overflow(page) == 0
    assert inaccessible(page, axe) == []
    expect(page.locator(".st-key-wide-spans")).to_be_visible(visible=width > 640)
    expect(page.locator(".st-key-narrow-spans")).to_be_visible(visible=width <= 640)
    keep(page, f"turn-{scheme}-{width}")
    for name, address, shows in OTHERS if (scheme, width) in {("light", 1440), ("dark", 390)} else ():
        visit(page, f"{stack.url}{address}", shows=shows)
        expect_none_failed(page)
        assert overflow(page) == 0, name
        assert inaccessible(page, axe) == [], name
        keep(page, f"{name}-{scheme}-{width}")
    assert foreign == []
    assert broken == []
    context.close()


def test_figures_are_those_of_the_stored_turns(page: Page, stack: Stack) -> None:
    """The first card counts the turns that were sent."""
    visit(page, f"{stack.url}/?window=24h", shows=".lw-turns")
    shown = page.locator(".st-key-panel-figures .lw-value").first.inner_text()
    ended = sum(turn.done is not None for turn in stack.turns)
    assert ended <= int(shown.replace(",", "")) <= len(stack.turns)


def test_drag_zooms_in_and_back_zooms_out(page: Page, stack: Stack) -> None:
    """A drag across the rate becomes a window in the URL; Back restores the one before."""
    visit(page, f"{stack.url}/?window=6h", shows=".lw-turns")
    chart = page.locator('[class*="st-key-chart-rate"] svg.marks')
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    drag(page, box, (0.6, 60), (0.7, 60))
    page.wait_for_url("**window=custom**")
    assert {"from", "to"} <= set(query(page))
    expect(page.locator('[class*="st-key-chart-rate-live"]')).to_have_count(0)
    expect_none_failed(page)
    page.go_back()
    expect(page.locator('[class*="st-key-chart-rate-live"]').first).to_be_visible()
    assert query(page)["window"] == ["6h"]


def test_route_card_filters_the_page_and_the_link_keeps_it(page: Page, stack: Stack) -> None:
    """A click on a route filters everything; opening the same address elsewhere shows the same turns."""
    visit(page, f"{stack.url}/?window=6h", shows=".lw-turns")
    page.locator(".lw-route a", has_text="lookup").click()
    page.wait_for_url("**route=lookup**")
    expect(page.locator(".lw-route")).to_have_count(1)
    visit(page, page.url, shows=".lw-turns")
    routes = {cell.inner_text() for cell in page.locator(".lw-turns tbody tr td:nth-child(3)").all()}
    assert routes == {"lookup"}


def test_row_opens_its_turn_and_back_returns_to_the_list(page: Page, stack: Stack) -> None:
    """A row leads to its turn with the filters in the address; Back leads to the same list."""
    visit(page, f"{stack.url}/?window=6h&pick=broken", shows=".lw-turns")
    link = page.locator(".lw-turns a").first
    turn_id = link.get_attribute("data-open")
    link.click()
    page.locator(".lw-head").wait_for()
    assert query(page) == {"id": [turn_id], "window": ["6h"], "pick": ["broken"]}
    page.go_back()
    page.locator(".lw-turns").wait_for()
    assert page.locator(".lw-turns a").first.get_attribute("data-open") == turn_id


def test_link_of_an_alert_opens_its_window(page: Page, stack: Stack) -> None:
    """Window, route and tier of the address are those of the page; a reason leads to exactly the turns that it counts."""
    end = datetime.now(UTC).replace(microsecond=0)
    start = end - timedelta(hours=HOURS)
    asked = {"window": "custom", "from": f"{start:%Y-%m-%dT%H:%M:%SZ}", "to": f"{end:%Y-%m-%dT%H:%M:%SZ}", "tier": "smart"}
    visit(page, f"{stack.url}/partials?{urlencode(asked)}", shows=".lw-turns")
    expect_none_failed(page)
    expect(page.locator(".st-key-url-tier input")).to_have_value("smart")
    tiers = {cell.inner_text() for cell in page.locator(".lw-turns tbody tr td:nth-child(4)").all()}
    assert tiers == {"smart"}
    row = page.locator(".st-key-panel-reasons .lw-rows tbody tr").first
    reason, counted = (row.locator("td").nth(place).inner_text() for place in (0, 1))
    row.locator("a").click()
    page.wait_for_url("**/turns?**")
    assert query(page) == {name: [value] for name, value in {**asked, "pick": "broken", "reason": reason}.items()}
    expect(page.locator(".st-key-panel-turns")).to_contain_text(f"of {counted} turn")


def test_list_of_turns_is_paged_and_narrowed(page: Page, stack: Stack) -> None:
    """Next turns the page in the address, Back turns it back; what narrows the list can be taken away."""
    visit(page, f"{stack.url}/turns?window=24h&stage=first_token_ms&low=1", shows=".lw-turns")
    panel = page.locator(".st-key-panel-turns")
    expect(panel).to_contain_text("1 to 50 of")
    page.locator(".st-key-page-Next button").click()
    expect(panel).to_contain_text("51 to 100 of")
    assert query(page)["page"] == ["2"]
    page.go_back()
    expect(panel).to_contain_text("1 to 50 of")
    page.locator(".st-key-drop-stage button").first.click()
    expect(page.locator(".st-key-drop-stage")).to_have_count(0)
    assert query(page) == {"window": ["24h"]}


def test_query_in_the_address_runs_and_can_be_taken_along(page: Page, stack: Stack) -> None:
    """A link runs its query; ids lead to their turns, the file holds all rows, what the engine refuses is said in its words."""
    count = "select turn_id, total_ms from turns order by total_ms desc nulls last"
    visit(page, f"{stack.url}/sql?{urlencode({'sql': count})}", shows=".lw-result")
    panel = page.locator(".st-key-panel-result")
    stored = len(httpx2.post(f"{stack.collector_url}/v1/sql", json={"sql": count}, trust_env=False).json()["rows"])
    expect(panel).to_contain_text(f"{stored:,} rows in")
    expect(panel.locator("tbody tr")).to_have_count(200)
    with page.expect_download() as download:
        panel.locator("button", has_text="CSV").click()
    assert len(Path(download.value.path()).read_text(encoding="utf-8").splitlines()) == stored + 1
    page.locator(".st-key-url-sql textarea").fill("delete from turns")
    page.get_by_role("button", name="Run").click()
    expect(panel).to_contain_text("Only queries are allowed here, not DELETE.")
    assert query(page) == {"sql": ["delete from turns"]}
    page.go_back()
    first = panel.locator("tbody tr a").first
    turn_id = first.inner_text()
    first.click()
    expect(page.locator(".lw-head h1")).to_have_text(turn_id)


def test_box_in_the_heat_map_leads_to_its_turns(page: Page, stack: Stack) -> None:
    """A drag becomes a box in the address, what is in it is ranked, and its turns are exactly those of the box."""
    visit(page, f"{stack.url}/stages?window=6h&stage=model_wait_ms", shows=".st-key-panel-box .lw-table")
    chart = page.locator('[class*="st-key-chart-heat"] svg.marks')
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    drag(page, box, (0.3, 20), (0.8, 150))
    page.wait_for_url("**box=**")
    start_ms, end_ms, low_ms, high_ms = (int(part) for part in query(page)["box"][0].split("~"))
    expect(page.locator(".st-key-panel-box h2")).to_have_text("What is different in the box?")
    expect(page.locator(".st-key-panel-box")).to_contain_text(", ended ")
    page.locator(IDLE).wait_for()
    page.locator(".st-key-panel-box").get_by_text("Show these turns").click()
    page.wait_for_url("**/turns?**")
    assert query(page)["low"] == [str(low_ms)]
    whole = (start_ms // 1000, -(-end_ms // 1000))
    counted = "select count(*) from turns where model_wait_ms between ? and ? and epoch(ended_at) >= ? and epoch(ended_at) < ?"
    asked = {"sql": counted, "params": [low_ms, high_ms, *whole]}
    found = httpx2.post(f"{stack.collector_url}/v1/sql", json=asked, trust_env=False).json()["rows"][0][0]
    assert found > 0
    expect(page.locator(".st-key-panel-turns")).to_contain_text(f"of {found:,} turn")


def test_pipeline_says_what_the_collector_refused(page: Page, stack: Stack) -> None:
    """A request that cannot be read stands among the refusals, with what it means."""
    refused = httpx2.post(
        f"{stack.collector_url}/v1/traces",
        content=b"no protobuf",
        headers={"Content-Type": "application/x-protobuf"},
        trust_env=False,
    )
    assert refused.status_code == 400
    visit(page, f"{stack.url}/pipeline?window=24h", shows=".st-key-panel-troubles .lw-table")
    expect(page.locator(".st-key-panel-health")).to_contain_text("takes and stores data")
    expect(page.locator(".st-key-panel-troubles tbody tr").first).to_contain_text("requests of traces refused with 400")
    ended = sum(turn.done is not None for turn in stack.turns)
    lost = page.locator(".st-key-panel-gaps tbody tr").first
    expect(lost).to_contain_text(f"{len(stack.turns) - ended:,} (")


def test_links_on_top_carry_the_filters(page: Page, stack: Stack) -> None:
    """From page to page the window stays what it was."""
    visit(page, f"{stack.url}/?window=24h&tier=fast", shows=".lw-turns")
    page.locator(".st-key-nav").get_by_text("Partials").click()
    page.locator(".st-key-panel-reasons").wait_for()
    assert query(page) == {"window": ["24h"], "tier": ["fast"]}


def _zoomed_on_incident(page: Page, stack: Stack) -> bool:
    """Drags over the rise of the partial rate; whether the window is that of the incident then, to two minutes."""
    visit(page, f"{stack.url}/?window=6h", shows=".lw-turns")
    shown = preset_view("6h", datetime.now(UTC), refresh_s=10)
    plot = page.locator('[class*="st-key-chart-rate"] svg.marks .role-frame > g > path.background').first
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    first, last = ((at - shown.start) / (shown.end - shown.start) for at in spike(stack.made_at))
    drag(page, box, (first, 60), (last, 60))
    page.wait_for_url("**window=custom**")
    asked = query(page)
    chosen = (datetime.fromisoformat(asked[name][0]) for name in ("from", "to"))
    return all(abs(at - wanted) < timedelta(minutes=2) for at, wanted in zip(chosen, spike(stack.made_at), strict=True))


def test_spike_leads_to_its_cause_in_five_clicks(page: Page, stack: Stack) -> None:
    """From the rise of the partial rate: zoom on it, ask why, choose what stands out, open a turn, ask for its spans. The cause is the one that was made: the smart tier."""
    # A drag that stands still for a moment, as on a busy machine, is taken for its end: whoever meant more drags again.
    assert any(_zoomed_on_incident(page, stack) for _ in range(3)), page.url  # 1
    page.locator('a[href*="window=custom"]', has_text="Which turns broke, and why").click()  # 2
    page.wait_for_url("**/partials?**window=custom**")
    slices = page.locator(".st-key-panel-different .lw-rows tbody tr")
    expect(slices.first).to_contain_text("tier smart")
    slices.first.locator("a").click()  # 3
    page.wait_for_url("**/turns?**tier=smart**")
    expect(page.locator(".st-key-panel-turns")).to_contain_text(" turns, those that broke")
    page.locator(".lw-turns tbody tr a").first.click()  # 4
    expect(page.locator(".lw-head")).to_contain_text("smart")
    expect(page.locator(".st-key-wide-spans svg.marks")).to_contain_text("kept partial")
    turn_id = page.locator(".lw-head h1").inner_text()
    page.get_by_text("Ask for the spans on the SQL page").click()  # 5
    expect(page.locator(".st-key-panel-result")).to_contain_text("rows in")
    assert turn_id in query(page)["sql"][0]


def test_turn_page_tells_the_whole_turn(page: Page, stack: Stack) -> None:
    """Head, waterfall, timeline, record and sources are there, and record and trace agree."""
    turn_id = interrupted(stack)
    turn = next(each for each in stack.turns if each.accepted.turn_id == turn_id)
    assert turn.done is not None
    assert turn.done.done is not None
    visit(page, f"{stack.url}/turn?id={turn_id}", shows=".lw-timeline")
    expect(page.locator(".lw-head h1")).to_have_text(turn_id)
    expect(page.locator(".lw-head")).to_contain_text("interrupted")
    chart = page.locator(".st-key-wide-spans svg.marks")
    expect(chart).to_contain_text("first visible token: no retry after this")
    expect(chart).to_contain_text("kept partial")
    expect(page.locator(".st-key-panel-agreement")).to_contain_text("yes")
    expect(page.locator(".lw-card")).to_have_count(len(turn.done.done.sources))
    expect(page.locator(".st-key-panel-sql")).to_contain_text(turn_id)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator(".st-key-panel-sql").get_by_role("button", name="Copy").first.click()
    expect(page.locator(".st-key-panel-sql").get_by_role("button", name="Copied")).to_be_visible()
    assert f"FROM turns WHERE turn_id = '{turn_id}'" in page.evaluate("navigator.clipboard.readText()")
    record = page.locator(".lw-json")
    expect(record).to_contain_text('completionStatus: "interrupted"')
    tokens = record.get_by_text("inputTokens").first
    expect(tokens).to_be_hidden()
    record.locator("summary", has_text="usage").first.click()
    expect(tokens).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Save done.json").click()
    assert '"completionStatus": "interrupted"' in Path(download.value.path()).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "odd",
    ['"sourceDetails":[null,{"url":null}]', '"novel":' + "[" * 900 + "]" * 900, '"novel":[' + "0," * 5000 + "0]"],
    ids=["null among the sources", "nested deeply", "very many values"],
)
def test_turn_page_shows_what_somebody_elses_record_holds(page: Page, stack: Stack, odd: str) -> None:
    """What is odd in it is left out or shown as text, and every other panel is there."""
    turn_id = f"trn_odd_{len(odd)}"
    _, body = ended(turn_id)
    told = json.loads(encode_json(body))
    del told["done"]["sourceDetails"]
    record = json.dumps(told, separators=(",", ":"))
    begins = record.index('"done":{') + len('"done":{')
    request = log_request((names.RECORD_DONE, f"{record[:begins]}{odd},{record[begins:]}"))
    sent = httpx2.post(
        f"{stack.collector_url}/v1/logs",
        content=request.SerializeToString(),
        headers={"Content-Type": "application/x-protobuf"},
        trust_env=False,
    )
    assert (sent.status_code, sent.content) == (200, b"")
    visit(page, f"{stack.url}/turn?id={turn_id}", shows=".lw-json")
    expect(page.locator(".st-key-panel-sql")).to_contain_text(turn_id)
    expect_none_failed(page)


def test_search_finds_a_turn_by_its_trace(page: Page, stack: Stack) -> None:
    """Opened without an id the page is a search: the beginning of a trace id leads to the turn."""
    turn = stack.turns[0].accepted
    visit(page, f"{stack.url}/turn", shows=".st-key-url-q")
    page.locator(".st-key-url-q input").fill(turn.trace_id[:20])
    page.keyboard.press("Enter")
    expect(page.locator(".lw-turns a")).to_have_count(1)
    page.locator(".lw-turns a").click()
    expect(page.locator(".lw-head h1")).to_have_text(turn.turn_id)


def test_turn_that_is_not_stored_is_said_to_be_missing(page: Page, stack: Stack) -> None:
    """An unknown id is neither an error nor an empty turn."""
    page.goto(f"{stack.url}/turn?id=trn_nowhere")
    expect(page.get_by_text("No turn trn_nowhere is stored.")).to_be_visible()


@pytest.mark.timeout(480)  # it visits every page twice
def test_page_fills_by_itself_and_fails_without_zeros(page: Page, tmp_path: Path) -> None:
    """An empty store says what to run; one turn appears without a reload, and no page fails at it; a dead collector is shown as failed on every page, never as zero."""
    running = start(tmp_path, LASTWORD_DASHBOARD_REFRESH_S="1", LASTWORD_DASHBOARD_CACHE_S="1")
    try:
        page.goto(running.url)
        expect(page.get_by_text("No turn is stored yet.")).to_be_visible()
        expect(page.locator(".st-key-panel-nothing")).to_contain_text("make demo")
        only = next(turn for turn in synthesize(20, seed=5, hours=0.5) if turn.done)
        post(running.collector_url, [only])
        pages = {**PLAIN, "turn": f"/turn?id={only.accepted.turn_id}"}
        page.locator(".lw-turns").wait_for()
        expect(page.locator(".lw-value").first).to_have_text("1")
        for name, address in pages.items():  # a single turn is enough for every page, and breaks none
            page.goto(f"{running.url}{address}")
            expect(page.locator('[class*="st-key-panel-"]').first).to_be_visible()
            page.locator(IDLE).wait_for()
            expect(page.locator('[class*="st-key-failed-"]'), name).to_have_count(0)
        page.goto(running.url)
        page.locator(".lw-turns").wait_for()
        running.collector.stop()
        failed = page.locator('[class*="st-key-failed-"]')
        expect(failed).to_have_count(len(PANELS) + 1)  # and the line of what fires, which is empty as long as nothing does
        expect(failed.first).to_contain_text("The collector does not answer")
        expect(failed.first.locator("button", has_text="Retry")).to_be_visible()
        expect(page.locator(".lw-value")).to_have_count(0)
        keep(page, "overview-failed")
        for name, address in pages.items():
            page.goto(f"{running.url}{address}")
            expect(page.locator('[class*="st-key-failed-"]').first, name).to_contain_text("The collector does not answer")
            page.locator(IDLE).wait_for()
            expect(page.locator("[class*=st-key-panel-] tbody tr"), name).to_have_count(0)
    finally:
        if running.collector.process.poll() is None:
            running.collector.stop()
        assert running.dashboard.stop() == 0


def test_alert_that_fires_leads_to_its_evidence_and_its_turns(page: Page, stack: Stack) -> None:
    """What fires is told on the Overview; its page has evidence above the threshold and what is different, and leads to the turns of its window."""
    page.goto(f"{stack.url}/alerts?window=1h")
    firing = (
        page.locator('[class*="st-key-firing-"]').filter(has_text="partial_rate").first
    )  # the root stands before its symptoms
    expect(firing).to_be_visible(timeout=ALERT_MS)
    firing.get_by_text("Why, and who was told").click()
    page.wait_for_url("**alert=**")
    episode = page.locator(".st-key-panel-episode")
    expect(episode.locator(".lw-meter + .lw-detail")).to_contain_text("times the threshold of")
    expect(episode.locator(".st-key-episode-reasons")).to_contain_text("provider_error")
    expect_none_failed(page)
    expect(episode.locator("table").last.locator("tbody tr")).to_have_count(3)
    episode.get_by_text("The turns that broke").click()
    page.wait_for_url("**/partials?**window=custom**")
    expect(page.locator(".st-key-panel-reasons .lw-rows")).to_contain_text("provider_error")
    link = httpx2.post(
        f"{stack.collector_url}/v1/sql",
        json={"sql": "select link from alerts where rule = 'partial_rate' and role = 'root'"},
        trust_env=False,
    ).json()["rows"][0][0]
    visit(page, link, shows=".lw-turns")
    expect_none_failed(page)
    visit(page, f"{stack.url}/?window=1h", shows=".st-key-panel-alerts p")
    expect(page.locator(".st-key-panel-alerts")).to_contain_text("page")


def test_dashboard_listens_on_loopback_only(stack: Stack) -> None:
    """Without settings nobody outside this machine can reach the pages."""
    assert httpx2.get(f"{stack.url}/_stcore/health", trust_env=False).status_code == 200
    port = urlsplit(stack.url).port
    listening = [
        line.split()[1]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/{stack.dashboard.process.pid}/net/{name}").read_text(encoding="ascii").splitlines()[1:]
        if line.split()[3] == "0A" and int(line.split()[1].rsplit(":", 1)[1], 16) == port
    ]
    assert listening == [f"0100007F:{port:04X}"]
