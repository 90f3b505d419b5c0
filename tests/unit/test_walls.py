"""The walls between the packages, kept by reading the imports."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("lastword", "service", "collector", "dashboard")
MODULES = {path.relative_to(ROOT).as_posix(): path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))}
SOURCES = {name: path.read_text(encoding="utf-8") for name, path in MODULES.items()}
MAX_LINES = 400
FRAMEWORKS = {
    "litestar",
    "uvicorn",
    "streamlit",
    "starlette",
    "sqlalchemy",
    "httpx2",
    "anthropic",
    "opentelemetry",
    "duckdb",
    "click",
}


def imports_of(name):
    """Every module that a file imports, dotted."""
    found = set()
    for node in ast.walk(ast.parse(SOURCES[name])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def roots_of(name):
    return {module.partition(".")[0] for module in imports_of(name)}


def importers_of(library):
    return {name for name in MODULES if library in roots_of(name)}


def test_there_is_something_to_check():
    """An empty list of files would keep every wall."""
    assert len(MODULES) > 60
    assert all(any(name.startswith(f"{package}/") for name in MODULES) for package in PACKAGES)


def test_programs_do_not_import_each_other():
    """Service, collector and dashboard meet on the wire only."""
    programs = {"service", "collector", "dashboard"}
    for name in MODULES:
        own = name.partition("/")[0]
        others = programs - {own}
        assert not roots_of(name) & others, name


def test_core_of_the_contract_needs_the_standard_library_and_msgspec():
    """Client, checker and command line apart, anybody can take the contract without its dependencies."""
    allowed = set(sys.stdlib_module_names) | {"lastword", "msgspec"}
    core = [
        name
        for name in MODULES
        if name.startswith("lastword/")
        and not name.startswith(("lastword/cli/", "lastword/check/"))
        and name != "lastword/client.py"
    ]
    assert len(core) >= 8
    for name in core:
        assert roots_of(name) <= allowed, name
        assert not {
            module for module in imports_of(name) if module.startswith(("lastword.cli", "lastword.client", "lastword.check"))
        }, name


def test_checker_knows_no_server():
    """It checks any server: nothing of ours but the contract, a parser of HTTP, and the messages of OTLP."""
    allowed = set(sys.stdlib_module_names) | {"lastword", "msgspec", "h11", "opentelemetry", "google"}
    checker = [name for name in MODULES if name.startswith("lastword/check/")]
    assert len(checker) >= 15
    for name in checker:
        assert roots_of(name) <= allowed, name
        assert all(module.startswith("opentelemetry.proto.") for module in imports_of(name) if "opentelemetry" in module), name
        assert not {module for module in imports_of(name) if module.startswith(("lastword.cli", "lastword.client"))}, name


def test_core_of_a_turn_is_pure():
    """Machine, policy, sources and timings know no framework, telemetry, provider, thread or clock."""
    core = [name for name in MODULES if name.startswith("service/turn/")]
    assert len(core) >= 8
    forbidden = FRAMEWORKS | {"threading", "asyncio", "time", "datetime", "random", "socket", "queue", "concurrent"}
    for name in core:
        assert not roots_of(name) & forbidden, name
        assert not {
            module for module in imports_of(name) if module.startswith("service.") and not module.startswith("service.turn")
        }, name


@pytest.mark.parametrize(
    ("library", "place"),
    [
        ("anthropic", "service/providers/anthropic_provider.py"),
        ("duckdb", "collector/"),
        ("streamlit", "dashboard/"),
        ("sqlalchemy", "service/"),
    ],
)
def test_library_has_one_place(library, place):
    """One module, or one package, knows a library; the rest of the product does not."""
    importers = importers_of(library)
    assert importers
    assert all(name.startswith(place) for name in importers), importers


def test_one_module_of_the_service_imports_opentelemetry():
    """Everything else hands it plain data."""
    assert {name for name in importers_of("opentelemetry") if name.startswith("service/")} == {"service/telemetry.py"}


def test_pages_of_the_dashboard_hold_no_sql():
    """Named queries stand in one place; a page has no string of SQL longer than a line."""
    for name in MODULES:
        if name.startswith("dashboard/") and not name.startswith("dashboard/queries/"):
            for node in ast.walk(ast.parse(SOURCES[name])):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    text = node.value.lower()
                    assert not ("select " in text and " from " in text and "\n" in node.value.strip()), (name, node.lineno)


@pytest.mark.parametrize("name", MODULES)
def test_module_says_what_it_owns_and_is_small(name):
    """A docstring at the top, and at most 400 lines."""
    assert ast.get_docstring(ast.parse(SOURCES[name])), "no docstring"
    assert len(SOURCES[name].splitlines()) <= MAX_LINES
