"""The files behind /try as a client without a browser sees them."""

import re

import pytest

from service.http.page import _TYPES
from service.settings import ServiceSettings
from tests.support.service import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    running = Service(tmp_path_factory.mktemp("page"), LASTWORD_SERVICE_DASHBOARD_URL='http://dash.example/"><script>')
    yield running
    assert running.stop() == 0


PATHS = {"/try": "try.html", "/try/try.css": "try.css", "/try/try.js": "try.js"}


@pytest.mark.parametrize("path", PATHS)
def test_page_is_served_with_its_type_and_a_strict_policy(service, path):
    """The right content type, nothing but the service's own files and requests, no frame around it, no guessing of types."""
    response = service.http.get(path)
    assert (response.status_code, response.headers["content-type"]) == (200, f"{_TYPES[PATHS[path]]}; charset=utf-8")
    policy = dict(part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";"))
    assert (policy["default-src"], policy["script-src"], policy["connect-src"]) == ("'none'", "'self'", "'self'")
    assert (policy["style-src"], policy["frame-ancestors"], policy["img-src"]) == ("'self'", "'none'", "data:")
    assert "unsafe" not in response.headers["content-security-policy"]
    assert (response.headers["x-content-type-options"], response.headers["referrer-policy"]) == ("nosniff", "no-referrer")


@pytest.mark.parametrize("path", PATHS)
def test_page_is_kept_by_the_browser_until_it_changes(service, path):
    """Asked for again with its tag it is a 304 without a body, with another tag it is sent."""
    first = service.http.get(path)
    assert first.headers["cache-control"] == "no-cache"
    again = service.http.get(path, headers={"if-none-match": f'"other", W/{first.headers["etag"]}'})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert service.http.get(path, headers={"if-none-match": '"other"'}).status_code == 200


def test_page_names_only_its_own_files_and_what_is_put_into_it_is_escaped(service):
    """No inline script or style, no address of another host, no markup from a setting; a slash too many leads back."""
    html = service.http.get("/try").text
    assert re.findall(r"<script[^>]*>", html) == ['<script type="module" src="try/try.js">']
    assert "<style" not in html
    assert " style=" not in html
    assert not re.search(r"\son\w+=", html)
    assert 'data-dashboard="http://dash.example/&quot;&gt;&lt;script&gt;"' in html
    assert 'data-routes="troubleshooting calculation lookup knowledge"' in html
    assert "cut_after_text" in html
    assert "{{" not in html
    assert (service.http.get("/try/").status_code, service.http.get("/try/").headers["location"]) == (308, "../try")


@pytest.mark.parametrize(
    ("host", "setting", "served"),
    [
        ("127.0.0.1", "auto", True),
        ("localhost", "auto", True),
        ("0.0.0.0", "auto", False),
        ("0.0.0.0", "on", True),
        ("::1", "off", False),
    ],
)
def test_page_is_there_on_loopback_or_where_it_is_wanted(host, setting, served):
    """By default nobody serves it to a network by accident."""
    assert ServiceSettings(host=host, try_page=setting).try_page_on is served


def test_page_can_be_turned_off(tmp_path):
    """Then none of its files is there."""
    without = Service(tmp_path, LASTWORD_SERVICE_TRY_PAGE="off")
    assert {without.http.get(path).status_code for path in PATHS} == {404}
    assert without.stop() == 0
