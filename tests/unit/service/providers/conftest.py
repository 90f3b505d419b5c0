"""What the tests of the providers share."""

import threading

import pytest

from service.tools.registry import ToolContext


@pytest.fixture
def make_context():
    """Makes what a tool is told of its turn."""

    def make(metadata, turn_id="t"):
        return ToolContext(cancelled=threading.Event(), deadline_ns=0, search=lambda *_: (), turn_id=turn_id, metadata=metadata)

    return make
