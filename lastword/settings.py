"""Settings: typed structs filled from environment variables, checked at start.

A field `port` of the section `service` is read from `LASTWORD_SERVICE_PORT`; fields of `Common` have no section in their name.
An unknown variable of a section is an error, because a misspelt setting that is silently ignored is found in production.
Each field's `Meta(description=...)` is its documentation; docs/settings.md is generated from it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from lastword.errors import SettingsError

PREFIX = "LASTWORD_"
CLIENT_VARIABLES = frozenset({"LASTWORD_SERVICE_URL", "LASTWORD_COLLECTOR_URL", "LASTWORD_API_KEY"})
"""Variables of the command line, which look like a section's and are none."""
Port = Annotated[int, Meta(ge=0, le=65535)]


class Common(Struct, frozen=True, kw_only=True):
    """Settings that every program reads, without a section in their name."""

    data_dir: Annotated[str, Meta(description="Folder for everything that is stored.")] = "data"
    log_level: Annotated[str, Meta(description="DEBUG, INFO, WARNING or ERROR.", pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = (
        "INFO"
    )

    @property
    def data_path(self) -> Path:
        """The data folder as an absolute path."""
        return Path(self.data_dir).expanduser().absolute()


S = TypeVar("S", bound=Common)


def variable(section: str, field: str) -> str:
    """The environment variable of a field."""
    name = field if field in Common.__struct_fields__ else f"{section}_{field}"
    return PREFIX + name.upper()


def load(cls: type[S], section: str, environ: Mapping[str, str] = os.environ) -> S:
    """The settings of one section.

    Raises:
        SettingsError: a variable is unknown, or its value is not of the field's type or range. The message names the variable.
    """
    by_variable = {variable(section, name): name for name in cls.__struct_fields__}
    for name in environ:
        if name.startswith(f"{PREFIX}{section.upper()}_") and name not in {*by_variable, *CLIENT_VARIABLES}:
            raise SettingsError(f"unknown setting {name}; known: {', '.join(sorted(by_variable))}")
    values = {field: environ[name] for name, field in by_variable.items() if environ.get(name, "") != ""}
    try:
        return msgspec.convert(values, cls, strict=False)
    except msgspec.ValidationError as error:
        where = str(error)
        for name, field in by_variable.items():
            if f"`$.{field}`" in where:
                where = f"{name}={environ[name]!r}: {where.partition(' - at ')[0]}"
        raise SettingsError(where) from error


def describe(cls: type[Common], section: str) -> list[tuple[str, str, str]]:
    """Variable, default and description of every setting of a section, for the docs."""
    rows: list[tuple[str, str, str]] = []
    for info in msgspec.structs.fields(cls):
        if section and info.name in Common.__struct_fields__:
            continue
        meta: Any = getattr(info.type, "__metadata__", ())
        text = " ".join(m.description for m in meta if isinstance(m, Meta) and m.description)
        default = info.default_factory() if info.default_factory is not msgspec.NODEFAULT else info.default
        rows.append((variable(section, info.name), "" if default in (None, "") else str(default), text))
    return rows
