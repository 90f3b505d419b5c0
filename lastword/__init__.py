"""The turn contract: what the service, the collector and the dashboard share.

Owns the words (states, events, names), the wire codec, the grammar and a client. The core of this package knows no framework,
no clock and no thread: it imports the standard library and msgspec only. The client adds httpx2; the command line adds click and
rich.
"""

from importlib.metadata import version

CONTRACT = "turn/1.0"
"""The version of the turn contract that this package speaks."""

__version__ = version("lastword")
