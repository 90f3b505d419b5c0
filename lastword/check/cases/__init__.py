"""The cases, a module for each group."""

from __future__ import annotations

from importlib import import_module

_MODULES = ("wire", "grammar", "faults", "resume", "cancel", "flow", "lifecycle", "telemetry")


def load() -> None:
    """Imports every module of cases, so that each registers its own."""
    for name in _MODULES:
        import_module(f"{__name__}.{name}")
