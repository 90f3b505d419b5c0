"""How the tests are spread over processes, where `-n` asks for several.

The tests of a module stay together and in their order: they share its fixtures and what those started. Those of the modules in `APART` share nothing that
costs, take long, and run wherever there is room. What may take longest begins first, or the last of it would keep the run waiting alone.
"""

import pytest

APART = (
    "tests/conformance/",
    "tests/integration/service/test_servers.py",
    "tests/integration/service/test_embed.py",
    "tests/simulation/",
)


def _together(nodeid):
    """What a test runs together with, by name."""
    return nodeid if nodeid.startswith(APART) else nodeid.partition("::")[0]


def _limit_s(item):
    mark = item.get_closest_marker("timeout")
    return mark.args[0] if mark else 0


def pytest_collection_modifyitems(config, items):
    """The longest limits first; the order stays as it is where the tests run one after the other."""
    if not hasattr(config, "workerinput"):
        return
    limits_s = {}
    for item in items:
        limits_s[_together(item.nodeid)] = max(_limit_s(item), limits_s.get(_together(item.nodeid), 0))
    items.sort(key=lambda item: -limits_s[_together(item.nodeid)])


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Ours for every kind of spreading that was asked for."""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        """Hands out what belongs together at once, in the order in which it was collected."""

        def _split_scope(self, nodeid):
            return _together(nodeid)

    config.option.loadscopereorder = False
    return Together(config, log)
