"""The routes file: what is wrong in it is told all at once, with its place."""

import pytest

from lastword.errors import SettingsError
from service.routes import DEFAULT_FILE, load_routes

TOOLS = ("search_knowledge", "calculate", "current_time")
TIERS = '[tiers.fast]\nextractive = "brief"\n'
LAST = '[[routes]]\nname = "rest"\ntiers = ["fast"]\n'


def problems_of(tmp_path, text):
    path = tmp_path / "routes.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        load_routes(path, "extractive", TOOLS)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"routes file {path}: ") for line in lines)
    return [line.removeprefix(f"routes file {path}: ") for line in lines]


@pytest.mark.parametrize(
    ("path", "tools"),
    [(DEFAULT_FILE, TOOLS), (DEFAULT_FILE.with_name("conformance.toml"), (*TOOLS, "conformance_probe"))],
    ids=lambda value: getattr(value, "name", ""),
)
@pytest.mark.parametrize("provider", ["extractive", "anthropic"])
def test_files_that_come_with_the_service_are_valid(path, tools, provider):
    """Both files work with both providers."""
    table = load_routes(path, provider, tools)
    assert table.choose("anything else", None).name == table.names[-1]


def test_everything_wrong_is_told_at_once(tmp_path):
    """One mistake does not hide the next: an unknown key, a budget out of range, a tool, a tier, a rule, a name twice, no default."""
    text = (
        TIERS
        + """
[[routes]]
name = "a"
tiers = ["fast"]
colour = "red"
[[routes]]
name = "b"
tiers = ["fast"]
attempts_per_tier = 99
[[routes]]
name = "c"
tiers = []
[[routes]]
name = "d"
tiers = ["fast", "fast", "slow"]
tools = ["fly"]
match = ["("]
"""
        + LAST.replace("rest", "d")
        + 'match = ["x"]\n'
    )
    told = problems_of(tmp_path, text)
    expected = [
        ("route 1 (a)", "colour"),
        ("route 2 (b)", "attempts_per_tier"),
        ("route 3 (c)", "tiers"),
        ("route 4 (d)", "'slow' names no model"),
        ("route 4 (d)", "unknown tools ['fly']"),
        ("route 4 (d)", "'fast' stands there twice"),
        ("route 4 (d)", "match rule '('"),
        ("route 'd'", "twice"),
        ("the last route", "no `match`"),
    ]
    assert len(told) == len(expected)
    assert [line for line, (place, what) in zip(told, expected, strict=True) if place not in line or what not in line] == []


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ("deadline_ms = 5000", "first_token_timeout_ms = 15000 is beyond deadline_ms = 5000"),
        ("deadline_ms = 5000", "stall_timeout_ms = 10000 is beyond deadline_ms = 5000"),
        ("backoff_base_ms = 4001", "backoff_base_ms = 4001 is beyond backoff_cap_ms = 4000"),
        ('tools = ["calculate", "calculate"]', "tool 'calculate' stands there twice"),
        ('fallback = ""', "length >= 1"),
    ],
)
def test_what_cannot_work_together_is_refused(tmp_path, keys, told):
    """Each is sound alone, and useless beside the others."""
    assert any(told in line for line in problems_of(tmp_path, TIERS + LAST + keys + "\n"))


def test_bounds_themselves_are_allowed(tmp_path):
    """A time-out as long as the deadline, a base as long as the cap."""
    path = tmp_path / "routes.toml"
    times = "deadline_ms = 15000\nstall_timeout_ms = 15000\nbackoff_base_ms = 4000\n"
    path.write_text(TIERS + LAST + times, encoding="utf-8")
    assert load_routes(path, "extractive", TOOLS).names == ["rest"]


@pytest.mark.parametrize("text", ["routes = 1", "[[routes", TIERS, TIERS + "routes = []", "x = 1\n" + TIERS + LAST])
def test_file_without_an_outline_is_refused(tmp_path, text):
    """No routes, no TOML, an unknown key at the top: one line, with the file."""
    assert len(problems_of(tmp_path, text)) == 1


def test_file_that_is_no_text_or_is_missing_is_refused(tmp_path):
    """Neither ends in a traceback."""
    path = tmp_path / "routes.toml"
    path.write_bytes(b"\xff\xfe")
    for wrong in (path, tmp_path / "none.toml"):
        with pytest.raises(SettingsError, match="routes file"):
            load_routes(wrong, "extractive", TOOLS)
