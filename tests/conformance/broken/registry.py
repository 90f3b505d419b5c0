"""The list of broken servers, and what the checker is to say of each."""

from collections.abc import Callable

from tests.conformance.reference.server import Reference

BROKEN: dict[str, type[Reference]] = {}
SAYS: dict[str, str] = {}


def breaks(case: str, says: str) -> Callable[[type[Reference]], type[Reference]]:
    """This server breaks the rule of a case; `says` is a pattern of the checker's message. A second one of a case gets a letter: `G24b`."""

    def register(server: type[Reference]) -> type[Reference]:
        assert case not in BROKEN, case
        BROKEN[case], SAYS[case] = server, says
        return server

    return register
