"""Tools of the operator's own: found in modules and files, and told clearly where they cannot be."""

import threading

import pytest
from msgspec import structs

from lastword.errors import SettingsError
from lastword.events import ToolOutcome
from service.clock import SystemClock
from service.tools.builtins import default_registry
from service.tools.conformance import conformance_probe
from service.tools.own import load_tools
from service.tools.registry import ToolContext
from tests.support.product import ROOT

STOCK = """
from service.tools.registry import Output, tool

@tool(name="stock", description="Tells what is in stock.", input_schema={"type": "object", "properties": {}})
def stock(arguments, context):
    return Output(text="12 left")
"""


def context(limit_s=5.0):
    deadline_ns = SystemClock().mono_ns() + round(limit_s * 1e9)
    return ToolContext(cancelled=threading.Event(), deadline_ns=deadline_ns, search=lambda *_: ())


def registry(*tools):
    return default_registry(SystemClock().mono_ns, more=tools)


def test_tools_of_a_file_and_of_a_module_are_run(tmp_path):
    """A file by its path, a module by its name; both beside the built-in tools."""
    path = tmp_path / "stock.py"
    path.write_text(STOCK)
    tools = load_tools([str(path), "service.tools.conformance"])
    assert [one.spec.name for one in tools] == ["stock", "conformance_probe"]
    with_ours = registry(*tools)
    assert {"calculate", "stock", "conformance_probe"} <= set(with_ours.names)
    assert with_ours.run("stock", {}, context()).text == "12 left"
    with_ours.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nothing_of_that_name", "ModuleNotFoundError"),
        ("this is no Python", "SyntaxError"),
        ("raise RuntimeError('no database')", "no database"),
        ("x = 1", "holds no tool"),
        (STOCK.replace('"stock"', '"a name with spaces"'), "is no name of a tool"),
        (STOCK + STOCK.replace("def stock", "def other"), "another tool of the name 'stock'"),
    ],
)
def test_file_that_cannot_be_used_is_told_with_its_name(tmp_path, text, told):
    """Never a traceback at start."""
    path = tmp_path / "stock.py"
    path.write_text(text)
    with pytest.raises(SettingsError, match=told) as caught:
        load_tools([str(path)])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("name", ["no_such_module", "no/such/file.py", "..", "service.tools.schema"])
def test_name_that_leads_nowhere_is_told(name):
    """A module that does not exist, a file that does not, and a module without tools."""
    with pytest.raises(SettingsError, match="LASTWORD_SERVICE_TOOLS"):
        load_tools([name])


def test_built_in_name_is_taken():
    """A tool of one's own cannot replace a built-in one unseen."""
    with pytest.raises(ValueError, match="two tools have the name"):
        registry(conformance_probe, structs.replace(conformance_probe))


@pytest.mark.parametrize(
    ("behaviour", "outcome"),
    [
        ("results", ToolOutcome.RESULTS),
        ("empty", ToolOutcome.EMPTY),
        ("error", ToolOutcome.ERROR),
        ("hang", ToolOutcome.TIMEOUT),
        ("fly", ToolOutcome.ERROR),
    ],
)
def test_probe_does_as_it_is_told(behaviour, outcome):
    """Every outcome that a tool can have, within its limit."""
    with_probe = registry(conformance_probe)
    assert with_probe.run("conformance_probe", {"behaviour": behaviour}, context(0.3)).outcome is outcome
    assert with_probe.close() == 0


@pytest.mark.parametrize(
    ("name", "arguments", "outcome", "urls"),
    [
        ("order_status", {"number": "1017"}, ToolOutcome.RESULTS, ["https://shop.example/orders/1017"]),
        ("order_status", {"number": "9"}, ToolOutcome.EMPTY, []),
        ("order_status", {}, ToolOutcome.ERROR, []),
        ("open_return", {"number": "1018"}, ToolOutcome.RESULTS, []),
        ("open_return", {"number": "9"}, ToolOutcome.ERROR, []),
    ],
)
def test_example_of_the_documentation_does_what_it_says(name, arguments, outcome, urls):
    """Results with their page as the source, nothing where there is no order, an error that the model can read."""
    shop = registry(*load_tools([str(ROOT / "docs" / "examples" / "shop_tools.py")]))
    ran = shop.run(name, arguments, context())
    assert (ran.outcome, [passage.url for passage in ran.passages]) == (outcome, urls)
    assert (shop.has_side_effects("order_status"), shop.has_side_effects("open_return")) == (False, True)
