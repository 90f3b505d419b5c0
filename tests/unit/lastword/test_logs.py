"""Logs: a line, its traceback, and no secret in either."""

import io
import logging
import sys

import pytest

from lastword.logs import REDACTED, Redactor, secrets_of

KEY = "lwk_0123456789ab_" + "c" * 48


def line(text, *args, exc_info=None, secrets=()):
    record = logging.LogRecord("x", logging.ERROR, "f", 1, text, args, exc_info)
    return Redactor(secrets).format(record)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (f"key {KEY} was used", KEY),
        ("Authorization: Bearer abcdef.ghijk", "abcdef.ghijk"),
        ("{'authorization': 'bearer abc-def'}", "abc-def"),
        ("x-api-key: 0123456", "0123456"),
        ("{'x-api-key': '0123456'}", "0123456"),
        ("sk-ant-api03-AAAA_bbbb", "AAAA_bbbb"),
        ("postgresql+psycopg://lastword:p4ss@db.example:5432/turns", "p4ss"),
    ],
)
def test_forms_of_secrets_are_taken_out(text, secret):
    """Whatever line they stand in."""
    got = line("before %s after", text)
    assert secret not in got
    assert REDACTED in got
    assert got.startswith("ERROR x: before ")
    assert got.endswith(" after")


@pytest.mark.parametrize(
    "text",
    ["http://127.0.0.1:8000/v1/turns", "postgresql://db.example:5432/x", "a task-force of risk-takers", "the bearer", "sk-"],
)
def test_what_is_no_secret_stays(text):
    """A log that hides addresses helps nobody."""
    assert line(text) == f"ERROR x: {text}"


def test_traceback_is_redacted_too():
    """An exception's text is written by others."""
    try:
        raise ValueError(f"cannot connect with {KEY} and hunter2secret")
    except ValueError:
        got = line("it broke", exc_info=sys.exc_info(), secrets=["hunter2secret"])
    assert "Traceback" in got
    assert KEY not in got
    assert "hunter2secret" not in got


def test_values_of_the_environment_are_known():
    """Each key of a list, with and without its limits; short values are words by chance."""
    environ = {
        "LASTWORD_SERVICE_API_KEYS": "alpha-one;rate=3,beta-two",
        "ANTHROPIC_API_KEY": "plainkey",
        "A_TOKEN": "abc",
        "HOME": "/home/me",
    }
    found = secrets_of(environ)
    assert {"alpha-one", "beta-two", "plainkey"} <= set(found)
    assert not {"abc", "/home/me", "rate=3"} & set(found)
    assert found == sorted(found, key=len, reverse=True)


def test_configured_logger_redacts(monkeypatch):
    """What is set up at start is what formats."""
    from lastword import logs

    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    try:
        logs.configure("INFO", {"ANTHROPIC_API_KEY": "very-secret"})
        logging.getLogger("a.b").info("with %s", "very-secret")
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    assert out.getvalue() == f"INFO a.b: with {REDACTED}\n"
