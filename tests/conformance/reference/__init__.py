"""A small, complete turn server on bare asyncio, written to be broken: every rule of the contract has one method that keeps it.

The broken servers of `broken/` override one method each. It shares no code with the service: what both agree on, the contract says.
"""

from tests.conformance.reference.server import Reference
from tests.conformance.reference.settings import Settings

__all__ = ["Reference", "Settings"]
