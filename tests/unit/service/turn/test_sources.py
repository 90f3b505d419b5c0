"""Sources: normal form, order, origins."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lastword.events import Origin
from lastword.urls import normalize_url
from service.turn.sources import SourceBook


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("HTTPS://Example.ORG:443/A?utm_source=x&b=1#top", "https://example.org/A?b=1"),
        ("http://example.org:80", "http://example.org/"),
        ("http://example.org:8080/x", "http://example.org:8080/x"),
        ("https://example.org/?gclid=1", "https://example.org/"),
        ("https://example.org/?q=a+b&q=%20", "https://example.org/?q=a+b&q=%20"),
        ("http://[2001:db8::1]:80/x", "http://[2001:db8::1]/x"),
        ("ftp://example.org/x", None),
        ("/relative", None),
        ("javascript:alert(1)", None),
        ("http://[bad", None),
        ("http://example.org:99999/", None),
        ("https://example.org/" + "x" * 3000, None),
    ],
)
def test_url_normal_form(url, normal):
    """Case of scheme and host, default port, fragment and tracking parameters do not tell sources apart."""
    assert normalize_url(url) == normal


@given(st.text(max_size=80))
def test_url_normal_form_is_stable(text):
    """Normalizing twice changes nothing, and no text raises."""
    normal = normalize_url("https://example.org/" + text)
    assert normal is None or normalize_url(normal) == normal


def test_sources_keep_first_evidence_order_and_all_origins():
    """One entry for a URL, at the place of its first evidence, with every origin and the first title."""
    book = SourceBook()
    book.add("https://a.org/", Origin.RETRIEVAL, title="A", score=2.0)
    book.add("https://b.org/", Origin.TOOL, title="B")
    book.add("https://A.org/#x", Origin.PAYLOAD, publisher="P")
    book.add("not a url", Origin.TOOL)
    assert [(d.url, d.title, d.publisher, d.origins, d.score) for d in book.details(9)] == [
        ("https://a.org/", "A", "P", (Origin.RETRIEVAL, Origin.PAYLOAD), 2.0),
        ("https://b.org/", "B", None, (Origin.TOOL,), None),
    ]


def test_sources_over_the_limit_keep_what_the_provider_cited():
    """Cited sources are kept before others; the order stays that of first evidence."""
    book = SourceBook()
    for n in range(5):
        book.add(f"https://{n}.org/", Origin.RETRIEVAL)
    book.add("https://cited.org/", Origin.PAYLOAD)
    assert [d.url for d in book.details(3)] == ["https://0.org/", "https://1.org/", "https://cited.org/"]


def test_sources_from_the_text_are_only_a_fallback():
    """URLs in the answer count where nothing structured was found, and only there."""
    book = SourceBook()
    book.add_from_answer("See https://x.org/a, and (https://y.org/b).")
    assert [d.url for d in book.details(9)] == ["https://x.org/a", "https://y.org/b"]
    book = SourceBook()
    book.add("https://a.org/", Origin.RETRIEVAL)
    book.add_from_answer("See https://x.org/a")
    assert [d.url for d in book.details(9)] == ["https://a.org/"]
