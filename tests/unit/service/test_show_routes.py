"""`lastword routes`: what it says of a file, and of a message. The examples of the documentation are the ones tried."""

import json

import pytest
from click.testing import CliRunner

from service.show_routes import main
from tests.support.product import ROOT

EXAMPLE = str(ROOT / "docs" / "examples" / "routes.toml")
TOOLS = str(ROOT / "docs" / "examples" / "shop_tools.py")


@pytest.fixture(autouse=True)
def shop(monkeypatch):
    """The shop's tools are there."""
    monkeypatch.setenv("LASTWORD_SERVICE_TOOLS", TOOLS)


def run(*arguments):
    return CliRunner().invoke(main, list(arguments))


def test_example_is_valid_for_every_provider():
    """The file of the documentation, with the tools of the documentation."""
    shown = run("check", EXAMPLE)
    assert shown.exit_code == 0, shown.output
    assert [line.partition(": ")[2] for line in shown.output.splitlines()] == [
        f"3 routes are valid for {provider}: orders, returns, anything" for provider in ("extractive", "anthropic")
    ]


def test_check_without_a_file_takes_the_services_own(monkeypatch):
    """As the service would."""
    monkeypatch.setenv("LASTWORD_SERVICE_ROUTES_FILE", EXAMPLE)
    assert EXAMPLE in run("check").output


def test_everything_wrong_is_told_and_the_status_is_two(tmp_path, monkeypatch):
    """A line for each mistake."""
    monkeypatch.delenv("LASTWORD_SERVICE_TOOLS")
    shown = run("check", EXAMPLE, "--provider", "anthropic")
    assert shown.exit_code == 2
    assert [line.partition("unknown tools ")[2].partition(";")[0] for line in shown.output.splitlines()] == [
        "['order_status']",
        "['open_return']",
    ]
    assert run("check", str(tmp_path / "none.toml")).exit_code == 2


@pytest.mark.parametrize(
    ("message", "route", "rule"),
    [
        ("Where is my PARCEL?", "orders", r"\bwhere is my (order|parcel)\b"),
        ("order number 1017, please", "orders", r"\border\b.*\d"),
        ("How do I return a book?", "returns", r"\b(return|refund|exchange)\b"),
        ("Who wrote Faust?", "anything", None),
    ],
)
def test_try_names_the_route_the_rule_and_the_models(message, route, rule):
    """As a person reads it, and as JSON."""
    told = json.loads(run("try", message, "--file", EXAMPLE, "--provider", "anthropic", "--json").output)
    assert (told["name"], told["matchedBy"]) == (route, rule)
    assert set(told["models"]) <= {"claude-sonnet-5-5", "claude-haiku-5-5"}
    shown = run("try", message, "--file", EXAMPLE).output
    assert shown.startswith(f"{route}: ")
    assert (rule or "no rule matched") in shown


def test_list_shows_every_route():
    """In order, with tools and models."""
    listed = json.loads(run("list", "--file", EXAMPLE, "--json").output)
    assert [route["name"] for route in listed] == ["orders", "returns", "anything"]
    assert listed[0]["tools"] == ["order_status"]
    shown = run("list", "--file", EXAMPLE).output
    assert all(word in shown for word in ("orders", "returns", "the rest", "open_return"))
