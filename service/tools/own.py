"""Tools of your own: every `Tool` that the named modules or files hold, loaded at start.

Owns the names in `LASTWORD_SERVICE_TOOLS` and what is told where they cannot be loaded. The code runs in the service's process, with its rights.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

from lastword.errors import SettingsError
from service.tools.registry import Tool

_SETTING = "LASTWORD_SERVICE_TOOLS"


def load_tools(names: Iterable[str]) -> tuple[Tool, ...]:
    """The tools of the modules (`shop.tools`) and files (`tools.py`), in the order in which they stand there.

    Raises:
        SettingsError: one of them cannot be imported, holds no tool, or two tools have the same name.
    """
    found: dict[str, Tool] = {}
    for name in names:
        tools = [value for value in vars(_module(name)).values() if isinstance(value, Tool)]
        if not tools:
            raise SettingsError(f"{_SETTING}: {name} holds no tool; make one with @tool of service.tools.registry")
        for one in tools:
            if found.setdefault(one.spec.name, one) is not one:
                raise SettingsError(f"{_SETTING}: {name} holds another tool of the name {one.spec.name!r}")
    return tuple(found.values())


def _module(name: str) -> ModuleType:
    try:
        return _from_file(Path(name).expanduser()) if name.endswith(".py") else importlib.import_module(name)
    except Exception as error:  # the boundary to code of others, which may raise anything while it is imported
        raise SettingsError(f"{_SETTING}: {name} cannot be imported: {type(error).__name__}: {error}") from error


def _from_file(path: Path) -> ModuleType:
    """The module of a file. It is not importable by its name, so that it cannot hide a module of the same name."""
    name = f"lastword_tools_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.absolute())
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look a class's module up there
    spec.loader.exec_module(module)
    return module
