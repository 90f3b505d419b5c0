"""A server that fills the right fields with nonsense fails cases; it never makes the checker itself fail."""

import json

import pytest

from lastword.check.bench import Bench
from lastword.check.exchange import Target
from lastword.check.preflight import facts_of
from lastword.check.provider import FakeProvider
from lastword.check.runner import Verdict, run_case
from lastword.check.sink import Sink
from tests.conformance.bench import CASES, OPTIONS, served
from tests.conformance.reference import Reference

pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.timeout(180),
]

SLOW = set("G15 P31 P32 R44 R50 C54 C55 C58 C59 F60 F62 F63 F64 F65 V76 V77 W13 W14 L66 L67 L68 L69 L70".split())


class Nonsense(Reference):
    """Has read the names of the contract's fields, and nothing else."""

    value: object = None

    def metadata(self, turn, status, stop, reason):
        return dict.fromkeys(super().metadata(turn, status, stop, reason), self.value)

    def ack_fields(self, turn):
        return dict.fromkeys(super().ack_fields(turn), self.value) | {"traceId": turn.trace_id}

    def error_fields(self, turn, fault):
        return dict.fromkeys(super().error_fields(turn, fault), self.value) | {"metadata": {}}

    def problem(self, reject):
        headers, body = super().problem(reject)
        return headers, json.dumps(dict.fromkeys(json.loads(body), self.value)).encode()

    def facts(self):
        return dict.fromkeys(super().facts(), self.value)


class BareNonsense(Nonsense):
    """Has nonsense where the terminal's metadata is expected, too."""

    value = "wibble"

    def append(self, turn, kind, fields):
        super().append(turn, kind, fields)
        if turn.terminal is not None:
            bare = b'data: {"metadata": [7], "turnId": "%s"}\n\n' % turn.id.encode()
            turn.frames[-1] = turn.frames[-1].split(b"data: ")[0] + bare
            turn.terminal = turn.terminal | {"metadata": {}, "wibble": 1}


class OddIds(Reference):
    """Names its turns with what can stand neither in a path nor in a header."""

    def begin(self, turn, request):
        turn.id, turn.conversation = f"turn {len(self.turns)} \u20ac", "a conversation"
        return super().begin(turn, request)

    def head(self, turn):
        status, headers = super().head(turn)
        return status, headers | {"Turn-Id": "odd"}


def nonsense(value):
    """A server that says this wherever it has something to say."""
    return type("Nonsense", (Nonsense,), {"value": value})


SERVERS = {
    "a word": nonsense("wibble"),
    "a nest": nonsense([["wibble"], {"a": None}]),
    "nothing": nonsense(None),
    "no metadata": BareNonsense,
    "odd ids": OddIds,
}


@pytest.mark.parametrize("name", SERVERS)
def test_nonsense_is_the_servers_fault(name):
    """Each case that can be tried quickly ends in a verdict on the server, and most of those that read the record fail."""
    with FakeProvider() as provider, Sink() as sink, served(SERVERS[name], provider, sink, "") as url:
        bench = Bench(Target.of(url), OPTIONS, provider=provider, sink=sink)
        bench.begin(10)
        bench.facts = facts_of(bench)
        results = [run_case(bench, case, 1.5) for ident, case in CASES.items() if ident not in SLOW]
    broken = {one.case.id: one.evidence.decode() for one in results if one.verdict is Verdict.BROKEN}
    assert broken == {}
    assert sum(1 for one in results if one.verdict is Verdict.FAILED) > 10
