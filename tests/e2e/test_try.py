"""The page at /try in a real browser, on a real service; connections are cut by a proxy, answers that no service gives are made up. Screenshots land in artifacts/."""

from __future__ import annotations

import json
import re
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.integration.service.test_http import Service
from tests.support.cutting_proxy import CuttingProxy
from tests.support.pages import ARTIFACTS, CHROMIUM, CHROMIUM_ARGS
from tests.support.product import wait_for

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no {CHROMIUM}"),
]

QUESTION = "why is my stream partial?"
LONG = "Explain how a failure is retried, and what a person sees of it"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    running = Service(
        tmp_path_factory.mktemp("try"),
        LASTWORD_SERVICE_PACE_MS="25",
        LASTWORD_SERVICE_HEARTBEAT_MS="400",
        LASTWORD_SERVICE_DASHBOARD_URL="http://127.0.0.1:8501",
    )
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(CHROMIUM_ARGS))
        yield browser
        browser.close()


class Seen:
    """What a page did besides showing something."""

    def __init__(self, page):
        self.requests = []
        self.complaints = []
        page.on("request", lambda request: self.requests.append(request))  # noqa: PLW0108 - the driver wants a function of ours
        page.on(
            "console", lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def of(self, method, end):
        return [request for request in self.requests if request.method == method and request.url.endswith(end)]


@pytest.fixture
def opened(chromium, service):
    """Opens the page; afterwards nothing outside was asked, and what the browser complained of was allowed."""
    contexts = []

    def go(url=service.url, **options):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        context.set_default_timeout(20_000)
        page = context.new_page()
        page.seen = Seen(page)
        page.base, page.allowed = url, ()
        contexts.append((context, page))
        page.goto(f"{url}/try")
        return page

    yield go
    for context, page in contexts:
        outside = {r.url for r in page.seen.requests if not r.url.startswith((page.base, "data:"))}
        assert outside == set()
        assert [line for line in page.seen.complaints if not any(word in line for word in page.allowed)] == []
        context.close()


def ask(page, question=QUESTION, fault=None):
    if fault:
        page.get_by_text("Options", exact=True).click()
        page.get_by_label("Break it on purpose").select_option(fault)
    page.get_by_label("Your question").fill(question)
    page.get_by_role("button", name="Ask", exact=True).click()


def last(page, part):
    return page.locator(".turn").last.locator(f".{part}")


def begun(page):
    wait_for(lambda: len(last(page, "answer").text_content()) > 40, 20, "some text is there", pause_s=0.02)


def ended(page, headline):
    expect(last(page, "headline")).to_have_text(headline, timeout=30_000)
    expect(page.locator(".turn").last).to_have_attribute("aria-busy", "false")


def turn_id(page):
    return page.locator(".turn").last.locator(".ids .id").first.get_attribute("title")


def is_whole(page, service):
    """The text on the page is the stored answer, and the streamed text that made it up had the digest that the service says."""
    expect(page.locator(".turn").last).to_have_attribute("data-stream", "whole")
    done = service.http.get(f"/v1/turns/{turn_id(page)}").json()["terminal"]["metadata"]
    assert last(page, "answer").text_content() == done["answer"]
    return done


def in_words(ms):
    """Milliseconds as the page tells them. Its language rounds halves up, Python to even digits."""
    if ms < 1000:
        return f"{ms} ms"
    return f"{Decimal(ms / 1000).quantize(Decimal('0.01') if ms < 10_000 else Decimal('0.1'), ROUND_HALF_UP)} s"


def test_answer_grows_and_ends_with_sources_tools_and_timings(opened, service):
    """A person asks, sees the text grow, and then everything that the terminal tells, with figures that add up."""
    page = opened()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ask(page)
    answer = last(page, "answer")
    lengths = {len(answer.text_content())}
    wait_for(lambda: lengths.add(len(answer.text_content())) or len(lengths) > 3, 20, "the text grows", pause_s=0.05)
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    page.screenshot(path=ARTIFACTS / "try-live.png") if ARTIFACTS.exists() else None
    ended(page, "Answered in full")
    done = is_whole(page, service)

    cards = page.locator(".card")
    assert cards.count() == len(done["sources"])
    for card, detail in zip(cards.all(), done["sourceDetails"], strict=True):
        link = card.get_by_role("link")
        assert (link.get_attribute("href"), link.inner_text()) == (detail["url"], detail["title"])
        assert (link.get_attribute("target"), link.get_attribute("rel")) == ("_blank", "noopener noreferrer")
        assert len(card.locator(".chip").all()) == len(detail["origins"])
        expect(card.locator(".from")).to_contain_text(f"127.0.0.1:{service.port}")

    timings = done["stageTimings"]
    stages = {key: ms for key, ms in timings.items() if key not in ("firstTokenMs", "totalMs")}
    rest = timings["totalMs"] - sum(stages.values())
    shown = page.locator(".facts tr td:nth-child(2)").all_inner_texts()
    assert sorted(shown) == sorted(in_words(ms) for ms in (*stages.values(), rest, timings["totalMs"]))
    expect(page.get_by_text("Tools: 1 used, 1 with results")).to_be_visible()

    page.get_by_role("button", name="Copy turn id").click()
    expect(page.get_by_role("button", name="Copy turn id")).to_have_text("Copied")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert service.http.get(f"/v1/turns/{copied}").json()["state"] == "done"
    page.get_by_role("button", name="Copy trace id").click()
    wait_for(
        lambda: re.fullmatch("[0-9a-f]{32}", page.evaluate("navigator.clipboard.readText()")), 30, "the trace id is copied"
    )
    href = page.get_by_role("link", name="Open in the dashboard").get_attribute("href")
    assert href == f"http://127.0.0.1:8501/turn?id={copied}"
    page.get_by_text("The done record", exact=True).click()
    assert json.loads(page.locator(".record pre").text_content())["metadata"]["sources"] == done["sources"]


def test_conversation_goes_on_until_a_new_one_is_begun(opened, service):
    """The second question names the conversation of the first; a new conversation names none."""
    page = opened()
    ask(page, "What is a turn?")
    ended(page, "Answered in full")
    ask(page, "And why?")
    ended(page, "Answered in full")
    first, second = (json.loads(request.post_data) for request in page.seen.of("POST", "/v1/turns"))
    assert "conversationId" not in first
    assert service.http.get(f"/v1/conversations/{second['conversationId']}").json()["messages"][2]["text"] == "And why?"
    page.get_by_role("button", name="New conversation").click()
    expect(page.locator(".turn")).to_have_count(0)
    ask(page, "What is a turn?")
    ended(page, "Answered in full")
    assert "conversationId" not in json.loads(page.seen.of("POST", "/v1/turns")[-1].post_data)


@pytest.mark.parametrize(("piece", "cuts"), [(65_536, [2_000]), (7, [900, 1_300, 700, 1_500]), (65_536, [1, 1_200])])
def test_dropped_connection_is_resumed_and_nothing_lost_or_doubled(opened, service, piece, cuts):
    """Cut in mid-answer, once or often, in the midst of a frame, read in pieces of seven bytes: the text is whole, and was asked for once."""
    with CuttingProxy(service.port, piece_bytes=piece) as proxy:
        page = opened(proxy.url)
        page.allowed = ("ERR_", "Failed to load resource")
        proxy.cut_after = list(cuts)
        ask(page, LONG)
        ended(page, "Answered in full")
        is_whole(page, service)
        assert proxy.cuts == len(cuts)
        posts = page.seen.of("POST", "/v1/turns")
        assert len({request.headers["idempotency-key"] for request in posts}) == 1
        behind = [request.headers.get("last-event-id") for request in page.seen.of("GET", "/events")]
        # What came in one piece with the cut may never reach the page: then the question is sent again, with its key.
        assert len(posts) + len(behind) == len(cuts) + 1
        assert behind or cuts[0] == 1
        assert all(cursor.startswith(f"{turn_id(page)}.") for cursor in behind if cursor)
        if behind:
            expect(last(page, "chips")).to_contain_text("resumed")


def test_service_that_comes_back_is_waited_for(opened, service):
    """While nothing can be reached the page says so and keeps the text; then it goes on by itself, or at a click."""
    with CuttingProxy(service.port) as proxy:
        page = opened(proxy.url)
        page.allowed = ("ERR_", "Failed to load resource")
        ask(page, LONG)
        begun(page)
        proxy.shut()
        expect(last(page, "headline")).to_contain_text("Connection lost")
        expect(last(page, "notices")).to_contain_text("Trying again in")
        kept = last(page, "answer").text_content()
        assert kept
        proxy.open = True
        page.get_by_role("button", name="Try now").click()
        ended(page, "Answered in full")
        assert is_whole(page, service)["answer"].startswith(kept[:20])


def test_service_that_cannot_be_reached_is_said_and_asked_once(opened, service):
    """Before `ack`: a few tries, then words and a button; the same question is then one turn."""
    with CuttingProxy(service.port) as proxy:
        page = opened(proxy.url)
        page.allowed = ("ERR_", "Failed to load resource")
        proxy.shut()
        ask(page)
        expect(last(page, "headline")).to_have_text("The service cannot be reached", timeout=20_000)
        proxy.open = True
        page.get_by_role("button", name="Try again").click()
        ended(page, "Answered in full")
        is_whole(page, service)
        assert len({request.headers["idempotency-key"] for request in page.seen.of("POST", "/v1/turns")}) == 1


def test_reload_in_mid_answer_goes_on_behind_the_cursor(opened, service):
    """The tab remembers turn and cursor; an ended turn is shown again as well."""
    page = opened()
    ask(page, "What is a turn?")
    ended(page, "Answered in full")
    ask(page, LONG)
    begun(page)
    page.reload()
    ended(page, "Answered in full")
    is_whole(page, service)
    assert len(page.seen.of("POST", "/v1/turns")) == 2
    (resumed,) = page.seen.of("GET", "/events")
    assert resumed.headers["last-event-id"] == f"{turn_id(page)}.{resumed.headers['last-event-id'].rpartition('.')[2]}"
    first = page.locator(".turn").first
    expect(first.locator(".headline")).to_have_text("Answered in full")
    expect(first.locator(".facts")).to_contain_text("Where the time went")


def test_stop_ends_the_turn_and_keeps_what_was_shown(opened, service):
    """The terminal says cancelled; the text stays."""
    page = opened()
    ask(page, LONG, fault="stall")
    begun(page)
    page.get_by_role("button", name="Stop").click()
    ended(page, "Stopped")
    expect(last(page, "after")).to_contain_text("stopped by you")
    done = is_whole(page, service)
    assert (done["completionStatus"], done["partial"]) == ("cancelled", True)


def test_heartbeats_are_shown_as_signs_of_life(opened):
    """While the model is silent the page says that the connection lives."""
    page = opened()
    ask(page, fault="stall_before_text")
    expect(last(page, "alive")).to_contain_text("heartbeat", timeout=10_000)
    page.get_by_role("button", name="Stop").click()
    ended(page, "Stopped")


@pytest.mark.parametrize(
    ("fault", "headline", "words"),
    [
        ("cut_after_text", "The answer breaks off", ["The model provider failed", "partial", "interrupted", "provider_error"]),
        ("truncated", "Cut short", ["reached its limit of length", "partial"]),
        ("refusal", "The model declined to answer", ["refused", "Nothing was shown"]),
        ("overloaded_before_text", "Answered in full", ["2 attempts", "the model provider was overloaded; tried again"]),
        ("empty_tool_result", "Answered in full", ["1 used, 0 with results", "found nothing"]),
    ],
)
def test_status_and_reason_are_said_in_words(opened, service, fault, headline, words):
    """What went wrong stands there as a person would say it, beside the contract's own words."""
    page = opened()
    ask(page, fault=fault)
    ended(page, headline)
    for word in words:
        expect(page.locator(".turn")).to_contain_text(word)
    is_whole(page, service)


def test_degraded_and_fallback_are_shown(chromium, tmp_path):
    """A cheaper tier that answered, and the safe answer, are told apart from a success."""
    failing = Service(tmp_path, LASTWORD_SERVICE_FAULTS="overloaded_before_text:2=1.0")
    page = chromium.new_page()
    page.goto(f"{failing.url}/try")
    ask(page, QUESTION)
    ended(page, "Answered in full, by a cheaper model")
    expect(page.locator(".turn")).to_contain_text("a cheaper tier was tried")
    page.close()
    assert failing.stop() == 0
    failing = Service(tmp_path, LASTWORD_SERVICE_FAULTS="error_before_text:always=1.0")
    page = chromium.new_page()
    page.goto(f"{failing.url}/try")
    ask(page, QUESTION)
    ended(page, "Safe answer")
    page.close()
    assert failing.stop() == 0


def test_refusal_before_ack_is_said_and_retry_after_counts_down(opened, service):
    """A 503 is words, the button counts its Retry-After down, and the question waits in its box to be asked again."""
    page = opened()
    page.allowed = ("503",)
    problem = {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "All workers are busy.",
        "traceId": "a" * 32,
    }
    page.route(
        "**/v1/turns",
        lambda route: route.fulfill(
            status=503, content_type="application/problem+json", headers={"Retry-After": "2"}, body=json.dumps(problem)
        ),
        times=1,
    )
    ask(page)
    expect(last(page, "headline")).to_have_text("The service takes no question right now")
    expect(last(page, "notices")).to_contain_text("All workers are busy.")
    expect(last(page, "notices")).to_contain_text("a" * 32)
    button = page.locator("#send")
    expect(button).to_have_text(re.compile(r"Ask in [12] s"))
    expect(button).to_be_disabled()
    expect(page.get_by_label("Your question")).to_have_value(QUESTION)
    expect(button).to_have_text("Ask")
    button.click()
    ended(page, "Answered in full")
    is_whole(page, service)


def test_api_key_is_asked_for_kept_in_the_tab_and_never_in_an_address(chromium, tmp_path):
    """Without a key a 401 in words and the field is offered; with it the question is answered, after a reload as well."""
    guarded = Service(tmp_path, LASTWORD_SERVICE_API_KEYS="alpha-key,beta-key")
    page = chromium.new_page()
    seen = Seen(page)
    page.goto(f"{guarded.url}/try")
    ask(page)
    expect(last(page, "headline")).to_have_text("The service wants an API key")
    expect(page.get_by_label("API key")).to_be_focused()
    page.get_by_label("API key").fill("alpha-key")
    page.get_by_role("button", name="Ask", exact=True).click()
    ended(page, "Answered in full")
    page.reload()
    ended(page, "Answered in full")
    assert page.evaluate("[sessionStorage.getItem('lastword.try.key'), localStorage.length]") == ["alpha-key", 0]
    assert not any("alpha-key" in request.url for request in seen.requests)
    page.close()
    assert guarded.stop() == 0


def frame(kind, seq, turn="trn_made", **fields):
    data = {"type": kind, "turnId": turn, "seq": seq, "tMs": seq, **fields}
    return f"event: {kind}\nid: {turn}.{seq}\ndata: {json.dumps(data)}\n\n"


ACK = {
    "contract": "turn/1.0",
    "traceId": "b" * 32,
    "route": "r",
    "modelTier": "t",
    "conversationId": "cnv_1",
    "heartbeatMs": 15000,
}


def done(answer, **fields):
    metadata = {
        "answer": answer,
        "completionStatus": "success",
        "partial": False,
        "chunkCount": 2,
        "stageTimings": {"totalMs": 9},
    }
    return {"metadata": metadata | fields}


def made_up(page, first, *resumed):
    """Answers the next question with these bytes, and its resumptions with those."""
    bodies = list(resumed)
    stream = {"content_type": "text/event-stream; charset=utf-8", "status": 200}
    page.route("**/v1/turns", lambda route: route.fulfill(body=first, **stream))
    page.route("**/v1/turns/*/events", lambda route: route.fulfill(body=bodies.pop(0), **stream))


def test_gap_is_resumed_and_unknown_events_are_ignored(opened):
    """An event that is missing is fetched, one that came before is not shown twice, one of an unknown type is nothing."""
    page = opened()
    head = frame("ack", 1, **ACK) + frame("chunk", 2, text="One ")
    terminal = frame("done", 6, **done("One two.", chunkCount=3))
    first = head + frame("novel", 3, fancy=True) + frame("chunk", 5, text=".") + terminal
    rest = (
        frame("novel", 3) + frame("chunk", 4, text="two") + frame("chunk", 5, text=".") + frame("chunk", 5, text=".") + terminal
    )
    made_up(page, first, rest)
    ask(page)
    ended(page, "Answered in full")
    assert last(page, "answer").text_content() == "One two."
    (resumed,) = page.seen.of("GET", "/events")
    assert resumed.headers["last-event-id"] == "trn_made.3"


def test_stream_ends_may_be_crlf_with_comments_and_a_byte_order_mark(opened):
    """What the standard of server-sent events allows is read."""
    page = opened()
    body = frame("ack", 1, **ACK) + ": hb\n\n" + frame("chunk", 2, text="a\u2028b ") + frame("chunk", 3, text="\U0001f600")
    body += frame("done", 4, **done("a\u2028b \U0001f600"))
    made_up(page, "\ufeff" + body.replace("\n", "\r\n"))
    ask(page)
    ended(page, "Answered in full")
    assert last(page, "answer").text_content() == "a\u2028b \U0001f600"


def test_nothing_that_a_server_sends_becomes_markup_or_a_script(opened):
    """Text is shown as text; a source that is no web address is no link; an unknown status is no success; the answer replaces the text."""
    page = opened()
    evil = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    body = frame("ack", 1, **ACK) + frame("chunk", 2, text="streamed ") + frame("chunk", 3, text="otherwise")
    sources = [
        {"url": "javascript:alert(3)", "title": evil, "origins": ["novel"]},
        {"url": "https://a.example/x", "origins": []},
    ]
    ending = done(evil, completionStatus="novel", sourceDetails=sources, sources=[one["url"] for one in sources])
    made_up(page, body + frame("done", 4, **ending))
    ask(page, evil)
    ended(page, "Ended as “novel”")
    assert last(page, "answer").text_content() == evil
    expect(last(page, "notices")).to_contain_text("replaced the streamed text")
    assert page.locator(".turn img, .turn script").count() == 0
    assert [link.get_attribute("href") for link in page.locator(".card a").all()] == ["https://a.example/x"]


def test_error_after_ack_is_said_with_what_may_be_done(opened):
    """The safe message, the reason in words, and a button to ask again where that may help; its delay counts down."""
    page = opened()
    error = {"code": "provider_overloaded", "message": "The model is overloaded.", "retryable": True, "retryAfterMs": 1500}
    metadata = {"reason": "provider_overloaded", "stageTimings": {"modelWaitMs": 5, "totalMs": 9, "firstTokenMs": None}}
    made_up(page, frame("ack", 1, **ACK) + frame("error", 2, **error, metadata=metadata))
    ask(page)
    ended(page, "No answer")
    for word in ("The model is overloaded.", "Asking again may help.", "provider_overloaded", "Unaccounted"):
        expect(page.locator(".turn")).to_contain_text(word)
    expect(page.locator("#send")).to_have_text(re.compile(r"Ask in [12] s"))
    expect(page.get_by_role("button", name="Ask again")).to_be_visible()


def test_parser_and_reader_hold_whatever_the_split(opened):
    """The page's own parts: every split of a stream gives the same frames; cursors refuse gaps and other turns; Retry-After is bounded."""
    page = opened()
    stream = (
        frame("ack", 1, **ACK)
        + ": hb\r\n\r\nretry: 5\n"
        + frame("chunk", 2, text="é€\U0001f600\u0085")
        + "data: a\ndata: b\r\r"
    )
    checked = page.evaluate(
        """async (text) => {
            const {FrameParser, TurnReader, StreamBroken, retryAfter} = await import('/try/try.js');
            const bytes = new TextEncoder().encode(text);
            const read = (size) => {
                const parser = new FrameParser(), frames = [];
                for (let at = 0; at < bytes.length; at += size) frames.push(...parser.feed(bytes.slice(at, at + size)));
                return JSON.stringify(frames);
            };
            const whole = read(bytes.length);
            const same = Array.from({length: 40}, (_, n) => read(n + 1)).every((one) => one === whole);
            const broken = (frame, reader = new TurnReader('t', 1)) => {
                try { reader.take(frame); return false; } catch (error) { return error instanceof StreamBroken && reader.seq === 1; }
            };
            const of = (turnId, seq, id = `${turnId}.${seq}`) => ({event: 'chunk', id, data: JSON.stringify({type: 'chunk', turnId, seq})});
            let endless = false;
            try { const parser = new FrameParser(); for (let n = 0; n < 12; n++) parser.feed(new Uint8Array(1 << 20).fill(97)); }
            catch (error) { endless = error instanceof StreamBroken; }
            return {
                same, frames: JSON.parse(whole), endless,
                refused: [of('t', 3), of('u', 2), of('t', 2, 't.9'), {event: 'chunk', id: null, data: '{'}, {event: 'done', id: null, data: of('t', 2).data}].map((f) => broken(f)),
                seen: new TurnReader('t', 5).take(of('t', 4)),
                waits: [retryAfter('3'), retryAfter(null), retryAfter('x'), retryAfter('9999999'), retryAfter(new Date(5000).toUTCString(), 1000)],
            };
        }""",
        stream,
    )
    assert checked["same"]
    assert [one.get("event", one.get("comment")) for one in checked["frames"]] == ["ack", "hb", "chunk", "message"]
    assert checked["frames"][-1]["data"] == "a\nb"
    assert json.loads(checked["frames"][2]["data"])["text"] == "é€\U0001f600\u0085"
    assert (checked["refused"], checked["seen"], checked["endless"]) == ([True] * 5, None, True)
    assert checked["waits"] == [3000, 0, 0, 3_600_000, 4000]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_usable_on_a_phone_in_light_and_dark(opened, scheme):
    """At 390 px nothing is wider than the screen, everything can be reached by keyboard, and the colours are the reader's choice."""
    ARTIFACTS.mkdir(exist_ok=True)
    page = opened(viewport={"width": 390, "height": 844}, color_scheme=scheme, reduced_motion="reduce")
    page.get_by_label("Your question").focus()
    page.keyboard.type(QUESTION)
    page.keyboard.press("Enter")
    ended(page, "Answered in full")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    red, green, blue = map(int, re.findall(r"\d+", page.evaluate("getComputedStyle(document.body).backgroundColor"))[:3])
    assert (red + green + blue > 600) is (scheme == "light")
    assert page.evaluate("getComputedStyle(document.querySelector('.dot')).animationName") == "none"
    unnamed = page.evaluate(
        """Array.from(document.querySelectorAll('button, a, input, select, textarea, summary'))
            .filter((one) => one.checkVisibility() && !(one.labels?.length || one.ariaLabel || one.textContent.trim())).length"""
    )
    assert unnamed == 0
    page.screenshot(path=ARTIFACTS / f"try-phone-{scheme}.png", full_page=True)
