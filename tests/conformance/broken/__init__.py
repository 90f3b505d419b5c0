"""Servers with one fault each, by the case that has to find it. A check that no broken server fails is no check."""

from tests.conformance.broken import cancel, faults, flow, grammar, lifecycle, resume, telemetry, wire
from tests.conformance.broken.registry import BROKEN, SAYS

__all__ = ["BROKEN", "MODULES", "SAYS"]

MODULES = (wire, grammar, faults, resume, cancel, flow, lifecycle, telemetry)
